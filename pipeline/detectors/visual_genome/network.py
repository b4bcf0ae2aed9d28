"""The network: ResNet-101 C4, region proposals, and the heads that name objects and attributes.

The modules have the names of the public weights, so that a state dict fits.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.ops import roi_pool

from pipeline.detectors.visual_genome.proposals import ANCHORS, STRIDE, cell_anchors, propose

OBJECTS, ATTRIBUTES, FEATURES = 1600, 400, 2048
BACKGROUND = OBJECTS
"""The class that means no object. It is the last one; the last attribute likewise means none."""
POOLED = 14
"""cells of a side that a box is pooled to"""
BOXES_AT_ONCE = 50
"""how many boxes go through the fifth stage together, which bounds the memory"""
_EMBEDDING, _ATTRIBUTE_HIDDEN, _PROPOSAL_HIDDEN = 256, 512, 512


class ConvNorm(nn.Conv2d):
    """A convolution without bias, followed by a batch normalisation that always uses the stored statistics."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride, padding, dilation, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(outputs, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        """Maps float [N, inputs, H, W] to [N, outputs, H', W']."""
        normed: Tensor = self.norm(super().forward(x))
        return normed

    def fuse(self) -> None:
        """Merges the normalisation into the convolution."""
        assert isinstance(self.norm, nn.BatchNorm2d)
        fused = fuse_conv_bn_eval(self, self.norm)
        self.weight, self.bias = fused.weight, fused.bias
        self.norm = nn.Identity()


class Bottleneck(nn.Module):
    """A residual block. Its first 1x1 convolution has the stride, as in Caffe's ResNet."""

    def __init__(self, inputs: int, width: int, outputs: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.shortcut = ConvNorm(inputs, outputs, 1, stride) if inputs != outputs else None
        self.conv1 = ConvNorm(inputs, width, 1, stride)
        self.conv2 = ConvNorm(width, width, 3, padding=dilation, dilation=dilation)
        self.conv3 = ConvNorm(width, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps float [N, inputs, H, W] to [N, outputs, H / stride, W / stride]."""
        residual = F.relu_(self.conv1(x))
        residual = F.relu_(self.conv2(residual))
        residual = self.conv3(residual)
        return F.relu_(residual.add_(x if self.shortcut is None else self.shortcut(x)))


def _stage(blocks: int, inputs: int, outputs: int, stride: int, dilation: int = 1) -> nn.Sequential:
    width = outputs // 4
    first = Bottleneck(inputs, width, outputs, stride, dilation)
    return nn.Sequential(first, *(Bottleneck(outputs, width, outputs, 1, dilation) for _ in range(blocks - 1)))


class Stem(nn.Module):
    """A convolution and a max-pooling without padding, whose last window may be cut off, as in Caffe."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = ConvNorm(3, 64, 7, stride=2, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        """Maps float [N, 3, H, W] to [N, 64, about H / 4, about W / 4]."""
        return F.max_pool2d(F.relu_(self.conv1(x)), 3, stride=2, ceil_mode=True)


class Backbone(nn.Module):
    """ResNet-101 up to and with its fourth stage."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Stem()
        self.res2 = _stage(3, 64, 256, stride=1)
        self.res3 = _stage(4, 256, 512, stride=2)
        self.res4 = _stage(23, 512, 1024, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Maps float [N, 3, H, W] to [N, 1024, about H / 16, about W / 16]."""
        features: Tensor = self.res4(self.res3(self.res2(self.stem(x))))
        return features


class AnchorGenerator(nn.Module):
    """Holds the anchors of a cell, which are part of the public weights."""

    def __init__(self) -> None:
        super().__init__()
        self.cell_anchors = nn.ParameterList([nn.Parameter(cell_anchors(), requires_grad=False)])


class ProposalHead(nn.Module):
    """Predicts for each anchor whether it holds an object, and how to correct the box."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1024, _PROPOSAL_HIDDEN, 3, padding=1)
        self.objectness_logits = nn.Conv2d(_PROPOSAL_HIDDEN, ANCHORS, 1)
        self.anchor_deltas = nn.Conv2d(_PROPOSAL_HIDDEN, ANCHORS * 4, 1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Maps float [N, 1024, H, W] to logits, float [N, 12, H, W], and deltas, float [N, 48, H, W]."""
        hidden = F.relu_(self.conv(features)).float()
        return self.objectness_logits(hidden), self.anchor_deltas(hidden)


class ProposalGenerator(nn.Module):
    """The region proposal network."""

    def __init__(self) -> None:
        super().__init__()
        self.anchor_generator = AnchorGenerator()
        self.rpn_head = ProposalHead()


class BoxPredictor(nn.Module):
    """Names the object in a box, corrects the box, and names an attribute of the object."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_score = nn.Linear(FEATURES, OBJECTS + 1)
        self.bbox_pred = nn.Linear(FEATURES, OBJECTS * 4)
        self.cls_embedding = nn.Embedding(OBJECTS + 1, _EMBEDDING)
        self.fc_attr = nn.Linear(FEATURES + _EMBEDDING, _ATTRIBUTE_HIDDEN)
        self.attr_score = nn.Linear(_ATTRIBUTE_HIDDEN, ATTRIBUTES + 1)

    def attribute_logits(self, features: Tensor, class_logits: Tensor) -> Tensor:
        """Returns float [n, 401], given that each box holds its most likely class, which may be the background."""
        classes = class_logits.argmax(1)
        hidden = F.relu_(self.fc_attr(torch.cat([features, self.cls_embedding(classes)], 1)))
        logits: Tensor = self.attr_score(hidden)
        return logits

    def deltas(self, features: Tensor, classes: Tensor) -> Tensor:
        """Returns the correction of each box, float [n, 4], if it holds an object of its class, int64 [n]."""
        deltas: Tensor = self.bbox_pred(features).view(len(features), OBJECTS, 4)
        return deltas.take_along_dim(classes[:, None, None], 1)[:, 0]


@dataclass(frozen=True, slots=True)
class Described:
    """What the heads predict for the boxes of an image."""

    boxes: Tensor
    """float32 [n, 4]: x1, y1, x2, y2 in pixels of the resized image"""
    features: Tensor
    """float32 [n, 2048]"""
    class_probs: Tensor
    """float32 [n, 1601]; the background is last"""
    attribute_probs: Tensor
    """float32 [n, 400]: a distribution over the attributes, in which "none" has no share"""


class RoiHeads(nn.Module):
    """Pools each box, sends it through the fifth stage of the ResNet, and describes it."""

    def __init__(self) -> None:
        super().__init__()
        self.res5 = _stage(3, 1024, FEATURES, stride=1, dilation=2)
        self.box_predictor = BoxPredictor()

    def features(self, pooled: Tensor) -> Tensor:
        """Maps pooled boxes, float [n, 1024, 14, 14], to features, float32 [n, 2048]."""
        described: Tensor = self.res5(pooled)
        return described.float().mean((2, 3))

    def forward(self, cells: Tensor, boxes: Tensor) -> Described:
        """Describes boxes, float32 [n, 4] in pixels, of an image whose map is float [1, 1024, H, W]."""
        exact = cells.float().contiguous()
        pooled = (roi_pool(exact, [some], POOLED, 1 / STRIDE) for some in torch.split(boxes, BOXES_AT_ONCE))
        features = torch.cat([self.features(some.to(cells.dtype)) for some in pooled])
        class_logits = self.box_predictor.cls_score(features)
        attribute_logits = self.box_predictor.attribute_logits(features, class_logits)[:, :ATTRIBUTES]
        return Described(boxes, features, class_logits.softmax(1), attribute_logits.softmax(1))


class VisualGenomeNetwork(nn.Module):
    """The whole network, for inference: backbone, region proposals and the heads that describe boxes.

    It has no ``forward``. A detector calls its parts one after the other: ``backbone`` makes a map of an image,
    `propose` finds boxes on this map, and ``roi_heads`` describes the boxes. The network must be in evaluation mode.
    """

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.proposal_generator = ProposalGenerator()
        self.roi_heads = RoiHeads()

    def fuse(self, dtype: torch.dtype) -> None:
        """Merges every normalisation into its convolution, and lets the large convolutions compute in ``dtype``.

        The small layers stay in float32, because rounding would make ties there. After this the state dict is no longer
        the published one.
        """
        for module in self.modules():
            if isinstance(module, ConvNorm):
                module.fuse()
        self.to(memory_format=torch.channels_last)
        for part in (self.backbone, self.proposal_generator.rpn_head.conv, self.roi_heads.res5):
            part.to(dtype)

    def propose(self, cells: Tensor, size: tuple[int, int]) -> Tensor:
        """Returns at most 300 boxes that may hold an object, float32 [n, 4]: x1, y1, x2, y2 in pixels.

        Args:
            cells: the map of one image from the backbone, float [1, 1024, H, W].
            size: height and width of the resized image in pixels.
        """
        (logits,), (deltas,) = self.proposal_generator.rpn_head(cells)
        (anchors,) = self.proposal_generator.anchor_generator.cell_anchors
        boxes, _ = propose(logits, deltas, anchors, size)
        return boxes
