"""torchvision, also beside a torch that its compiled operators were not built for. Import it before torchvision.

The torchvision of PyPI is built for CUDA. Beside the CPU build of torch its library does not load, and not even
``import torchvision`` works then. Here the operators that detectors need are plain PyTorch in that case, under
torchvision's own names; where the library loads, it is what is used.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

_ROIS_AT_ONCE = 64
"""Bounds the memory of RoI align."""


def greedy_nms(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """What `torchvision.ops.nms` does: int64 [kept], by falling score; equal scores in their order."""
    order = torch.sort(scores, descending=True, stable=True).indices
    x1, y1, x2, y2 = boxes.detach()[order].cpu().numpy().T
    areas = (x2 - x1) * (y2 - y1)
    left = np.ones(len(areas), bool)
    kept = []
    for i in range(len(areas)):
        if not left[i]:
            continue
        kept.append(i)
        rest = np.flatnonzero(left[i + 1 :]) + i + 1
        width = np.minimum(x2[i], x2[rest]) - np.maximum(x1[i], x1[rest])
        height = np.minimum(y2[i], y2[rest]) - np.maximum(y1[i], y1[rest])
        shared = width.clip(min=0) * height.clip(min=0)
        with np.errstate(invalid="ignore"):  # two empty boxes
            overlap = shared / (areas[i] + areas[rest] - shared)
        left[rest[overlap.astype(np.float64) > threshold]] = False
    return order[torch.tensor(kept, dtype=torch.int64, device=order.device)]


def max_pool_rois(maps: Tensor, rois: Tensor, scale: float, height: int, width: int) -> tuple[Tensor, Tensor]:
    """What the operator behind `torchvision.ops.roi_pool` does, without where the maxima were.

    Args:
        maps: float [N, C, H, W].
        rois: float [K, 5]: number of the map, then xyxy in pixels.
        scale: cells of the map in a pixel.
        height: of what comes out, in cells.
        width: likewise.

    Returns:
        float [K, C, height, width]; 0 where a cell has no input. And an empty tensor.
    """
    found = maps.new_zeros(len(rois), maps.shape[1], height, width)
    # Half a cell is rounded away from 0, and bins are cut in single precision, as in the compiled operator.
    corners = (rois[:, 1:].float() * scale).cpu().numpy()
    corners = (np.sign(corners) * np.floor(np.abs(corners) + np.float32(0.5))).astype(np.int64)
    for roi, (number, (x1, y1, x2, y2)) in enumerate(zip(rois[:, 0].tolist(), corners.tolist(), strict=True)):
        one = maps[int(number)]
        rows = _bins(y1, y2, height, one.shape[1])
        columns = _bins(x1, x2, width, one.shape[2])
        for i, row in enumerate(rows):
            if row.start >= row.stop:
                continue
            tallest = one[:, row].amax(1)
            for j, column in enumerate(columns):
                if column.start < column.stop:
                    found[roi, :, i, j] = tallest[:, column].amax(1)
    return found, rois.new_empty(0, dtype=torch.int32)


def _bins(first: int, last: int, bins: int, cells: int) -> list[slice]:
    """The cells of each of the bins between two cells, those inclusive; bins overlap where they do not divide."""
    size = np.float32(max(last - first + 1, 1)) / np.float32(bins)
    numbers = np.arange(bins, dtype=np.float32)
    starts = (np.floor(numbers * size).astype(np.int64) + first).clip(0, cells)
    stops = (np.ceil((numbers + 1) * size).astype(np.int64) + first).clip(0, cells)
    return [slice(start, stop) for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)]


def align_rois(
    maps: Tensor, rois: Tensor, scale: float, height: int, width: int, sampling_ratio: int, aligned: bool
) -> Tensor:
    """What the operator behind `torchvision.ops.roi_align` does; arguments as there.

    A bilinear sample is a weighted sum over rows of weighted sums over columns, and so is the mean of a bin's samples.

    Returns:
        float [K, C, height, width] of the maps' type, computed in float32.
    """
    exact, rois = maps.float(), rois.float()
    order = torch.sort(rois[:, 0], stable=True).indices  # those of a map stand together
    found = [exact.new_zeros(0, maps.shape[1], height, width)]
    with torch.autocast(maps.device.type, enabled=False):
        for number in range(len(maps)):
            own = order[rois[order, 0] == number]
            for some in torch.split(own, _ROIS_AT_ONCE):
                x1, y1, x2, y2 = (rois[some, 1:] * scale - (0.5 if aligned else 0.0)).unbind(1)
                rows_KPH = _bin_weights(y1, y2, height, maps.shape[2], sampling_ratio, aligned)
                columns_KQW = _bin_weights(x1, x2, width, maps.shape[3], sampling_ratio, aligned)
                tall_KPCW = torch.einsum("kph,chw->kpcw", rows_KPH, exact[number])
                found.append(torch.einsum("kpcw,kqw->kcpq", tall_KPCW, columns_KQW))
    return torch.cat(found)[torch.argsort(order)].to(maps.dtype)


def _bin_weights(start_K: Tensor, end_K: Tensor, bins: int, cells: int, sampling_ratio: int, aligned: bool) -> Tensor:
    """float [K, bins, cells]: how much each cell counts in the mean of each bin's samples, along one axis."""
    length_K = end_K - start_K if aligned else (end_K - start_K).clamp(min=1)
    size_K = length_K / bins
    samples_K = size_K.ceil() if sampling_ratio <= 0 else torch.full_like(size_K, sampling_ratio)
    samples_K = samples_K.clamp(min=0)
    most = int(samples_K.max().item()) if len(samples_K) else 0
    number_S = torch.arange(max(most, 1), device=start_K.device)
    used_KS = (number_S < samples_K[:, None]).to(start_K.dtype)
    bin_P = torch.arange(bins, device=start_K.device)
    inside_KS = (number_S + 0.5) * (size_K / samples_K.clamp(min=1))[:, None]
    places_KPS = start_K[:, None, None] + bin_P[:, None] * size_K[:, None, None] + inside_KS[:, None, :]
    used_KPS = used_KS[:, None, :] * ((places_KPS >= -1) & (places_KPS <= cells))
    cell_H = torch.arange(cells, device=start_K.device)
    near_KPSH = (1 - (places_KPS.clamp(0, cells - 1)[..., None] - cell_H).abs()).clamp(min=0)
    weights_KPH: Tensor = (near_KPSH * used_KPS[..., None]).sum(2) / samples_K.clamp(min=1)[:, None, None]
    return weights_KPH


def _loads() -> bool:
    """Whether torchvision's compiled operators go with this torch."""
    spec = find_spec("torchvision")
    if spec is None or spec.origin is None:
        return True  # the import that follows says what is missing
    try:
        for library in Path(spec.origin).parent.glob("_C*.so"):
            torch.ops.load_library(library)  # type: ignore[no-untyped-call]
    except OSError:
        return False
    return True


def _stand_in() -> Any:
    """Defines the operators by the functions above."""
    library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for schema, key, operator in (
        ("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor", "CompositeExplicitAutograd", greedy_nms),
        (  # it must be there
            "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
            "CompositeExplicitAutograd",
            greedy_nms,
        ),
        (
            "roi_align(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width, "
            "int sampling_ratio, bool aligned) -> Tensor",
            "CompositeImplicitAutograd",  # so gradients go through
            align_rois,
        ),
        (
            "roi_pool(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width) "
            "-> (Tensor, Tensor)",
            "CompositeImplicitAutograd",
            max_pool_rois,
        ),
    ):
        name = library.define(schema)
        library.impl(name, operator, key)
    for module in ("torchvision.extension", "torchvision.ops.roi_align"):
        vars(import_module(module))["_has_ops"] = lambda: True
    return library


_LIBRARY = None if _loads() else _stand_in()
"""Held, because its definitions go when it does."""
