"""The scores of every caption with every image. Nothing is computed twice, and a run that was stopped goes on.

The states below the first co-layer depend on the text or on the image alone, so they are computed once for each.
Captions of equal length, and images with as many regions, are scored together, so that there is little padding. The
matrix is made in blocks: some captions with all images. Which captions a block has follows from their lengths alone, so
a block has the same bytes whenever it is made, and on whichever rank.

Shape suffixes: C captions, I images, P pairs, T text positions, R image rows.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from finetune.heads import FineTunedModel
from finetune.inputs import ImageRows, Inputs, Sources, TokenizedText, move_inputs
from parsers.command import InputError, progress
from shards.schema import Array
from shards.storage.files import read_record, seal, unseal, write_atomic, write_record
from shards.storage.scratch import remove_leftovers

if TYPE_CHECKING:
    from pretrain.training.distributed import DistributedContext

T = TypeVar("T")
Precision = Literal["fp32", "bf16", "fp16"]
BLOCK_PAIRS = 4096
"""Approximate number of pairs in a block. The base model needs about half a minute for them on a CPU core."""
_ENCODED = 64
"""Number of texts or images that are encoded at once."""
PLAN = "plan.json"
"""The file in a folder of blocks that says what they were made of."""


@dataclass(frozen=True, slots=True)
class States:
    """Texts or images before they meet: their states below the first co-layer."""

    states: Tensor
    """float [n, T, D] or [n, R, V], padded"""
    lengths: Array
    """int64 [n]: how many positions or rows of each are not padding"""

    def pool(self) -> Tensor:
        """Returns float32 [n, 2 D] on the CPU: the mean and the maximum of each text's or image's states."""
        real = (torch.arange(self.states.shape[1]) < torch.from_numpy(self.lengths)[:, None])[..., None]
        states = self.states.float().cpu()
        return torch.cat([(states * real).sum(1) / real.sum(1), states.masked_fill(~real, -torch.inf).amax(1)], 1)

    def gather(self, numbers: Array) -> tuple[Tensor, Tensor | None]:
        """Returns the states with these numbers, cut to the longest of them, and their mask.

        The mask is bool, False in padding, or None if nothing is padded.
        """
        lengths = self.lengths[numbers]
        longest = int(lengths.max())
        device = self.states.device
        picked = self.states[:, :longest].index_select(0, torch.from_numpy(numbers).to(device))
        if (lengths == longest).all():
            return picked, None
        return picked, torch.from_numpy(np.arange(longest) < lengths[:, None]).to(device)


class PairScorer:
    """A fine-tuned retrieval model that scores any text with any image."""

    def __init__(
        self,
        model: FineTunedModel,
        sources: Sources,
        *,
        device: torch.device,
        precision: Precision = "fp32",
        batch_size: int = 64,
    ) -> None:
        """Keeps the model and how it is to be run. Nothing is computed yet.

        Args:
            model: a model with a `RetrievalHead`. It must be in evaluation mode and lie on ``device``.
            sources: pads the texts and images of a batch to tensors.
            device: the device of the model, on which everything is computed.
            precision: the precision that the model computes in, by autocast. Scores are float32 in any case.
            batch_size: number of pairs that are scored together.
        """
        self._encoder, self._head = model.ernie_vil, model.head
        self._sources, self._device, self._batch_size = sources, device, batch_size
        self._dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]

    def encode_texts(self, texts: Sequence[TokenizedText]) -> States:
        """Runs the text stream up to the first co-layer."""
        return self._encode(texts, self._sources.pad_texts, self._encoder.encode_text, "text_mask")

    def encode_images(self, images: Iterable[ImageRows]) -> States:
        """Runs the image stream up to the first co-layer. Only the features of a few images are in memory at a time."""
        return self._encode(images, self._sources.pad_images, self._encoder.encode_image, "image_mask")

    @torch.no_grad()
    def _encode(
        self, items: Iterable[T], pad: Callable[[Sequence[T]], Inputs], encode: Callable[..., Tensor], mask_name: str
    ) -> States:
        parts, lengths = list[Tensor](), list[Array]()
        left = iter(items)
        while chunk := list(islice(left, _ENCODED)):
            inputs = move_inputs(pad(chunk), self._device)
            with self._autocast():
                part = encode(**inputs)
            parts.append(part)
            mask = inputs[mask_name]
            lengths.append(np.full(len(part), part.shape[1]) if mask is None else mask.sum(1).cpu().numpy())
        longest = max(part.shape[1] for part in parts)
        states = torch.cat([nn.functional.pad(part, (0, 0, 0, longest - part.shape[1])) for part in parts])
        return States(states, np.concatenate(lengths))

    @torch.no_grad()
    def score(self, texts: States, images: States, pairs_P2: Array) -> Array:
        """Scores pairs.

        Args:
            texts: what `encode_texts` returns.
            images: what `encode_images` returns.
            pairs_P2: int64 [P, 2], the numbers of a text and an image.

        Returns:
            float32 [P], log-odds.
        """
        scores = np.empty(len(pairs_P2), np.float32)
        lengths = texts.lengths[pairs_P2[:, 0]], images.lengths[pairs_P2[:, 1]]
        order = np.lexsort((pairs_P2[:, 1], pairs_P2[:, 0], *lengths))
        for start in range(0, len(order), self._batch_size):
            places = order[start : start + self._batch_size]
            text_states, text_mask = texts.gather(pairs_P2[places, 0])
            image_states, image_mask = images.gather(pairs_P2[places, 1])
            with self._autocast():
                encoded = self._encoder.encode_pairs(
                    text_states=text_states,
                    text_mask=text_mask,
                    image_states=image_states,
                    image_mask=image_mask,
                    pooled_only=True,
                )
                found = self._head(encoded)
            scores[places] = found.float().cpu().numpy()
        return scores

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32)


class ScoreMatrix:
    """The scores of all captions with all images of a split, made block by block."""

    def __init__(
        self,
        scorer: PairScorer,
        texts: Sequence[TokenizedText],
        images: Callable[[], States],
        image_count: int,
        candidates: Array | None = None,
    ) -> None:
        """Plans the blocks. Nothing is computed yet.

        Args:
            scorer: scores the pairs.
            texts: the C captions.
            images: encodes all images. It is called once, when the first block is made.
            image_count: I.
            candidates: bool [C, I], the pairs to score; None for all pairs.
        """
        self._scorer, self._texts, self._encode_images = scorer, texts, images
        self._candidates = candidates
        self.shape = (len(texts), image_count)
        order = np.argsort([len(text.token_ids) for text in texts], kind="stable")
        captions = max(1, BLOCK_PAIRS // max(1, image_count))
        self._blocks = [order[start : start + captions] for start in range(0, len(order), captions)]
        self._images: States | None = None

    def fill(
        self, world: DistributedContext, folder: Path | None = None, fingerprint: Mapping[str, object] | None = None
    ) -> Array:
        """Makes all blocks. The ranks share the work; each returns the whole matrix, float32 [C, I].

        Args:
            world: the ranks.
            folder: every block is written here as soon as it is made. A block that is there already is not made again.
            fingerprint: JSON values that name the model, the regions and whatever else the scores depend on. A folder
                with another fingerprint is refused.

        Raises:
            InputError: the folder has another fingerprint or a damaged block.
        """
        if folder is not None:
            world.on_first(lambda: _claim(folder, {**(fingerprint or {}), "blocks": self._fingerprint()}))
        made = world.share(lambda: self._make_own_blocks(world, folder))
        scores = np.empty(self.shape, np.float32)
        for number, captions in enumerate(self._blocks):
            name = _name_block(number)
            shape = (len(captions), self.shape[1])
            scores[captions] = made[name] if folder is None else _read_block(folder / name, shape)
        return scores

    def _make_own_blocks(self, world: DistributedContext, folder: Path | None) -> dict[str, Array]:
        """Makes the blocks of this rank. Without a folder it returns them by name, else it writes them."""
        made: dict[str, Array] = {}
        own = range(world.rank, len(self._blocks), world.size)
        with progress("score", sum(len(self._blocks[number]) for number in own), "caption") as advance:
            for number in own:
                name = _name_block(number)
                if folder is None:
                    made[name] = self._make_block(number)
                elif not (folder / name).exists():
                    write_atomic(folder / name, _to_bytes(self._make_block(number)))
                captions = len(self._blocks[number])
                advance(captions, rows=captions * self.shape[1])
        return made

    def _make_block(self, number: int) -> Array:
        """Returns float32 [captions of the block, I]; -inf for a pair that is not a candidate."""
        if self._images is None:
            self._images = self._encode_images()
        captions = self._blocks[number]
        block = np.full((len(captions), self.shape[1]), -np.inf, np.float32)
        wanted = np.ones(block.shape, bool) if self._candidates is None else self._candidates[captions]
        pairs = np.argwhere(wanted)
        states = self._scorer.encode_texts([self._texts[caption] for caption in captions])
        block[wanted] = self._scorer.score(states, self._images, pairs)
        return block

    def _fingerprint(self) -> str:
        """Returns a checksum of the texts, the candidates, and how they are cut into blocks."""
        digest = hashlib.sha256(repr((self.shape, len(self._blocks))).encode())
        for text in self._texts:
            digest.update(text.token_ids.tobytes() + b"|")
        if self._candidates is not None:
            digest.update(np.packbits(self._candidates).tobytes())
        return digest.hexdigest()


def _claim(folder: Path, fingerprint: Mapping[str, object]) -> None:
    """Marks a new folder with a fingerprint; refuses a folder with another one. What a killed run left is removed."""
    remove_leftovers(folder)
    path = folder / PLAN
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_record(fingerprint, path)
        return
    found = read_record(path)
    wrong = sorted(key for key in fingerprint.keys() | found.keys() if fingerprint.get(key) != found.get(key))
    if wrong:
        raise InputError(f"{folder} holds scores with another {', '.join(wrong)}; name another --out or remove it")


def _name_block(number: int) -> str:
    return f"block-{number:05d}.npy"


def _to_bytes(block: Array) -> bytes:
    stream = io.BytesIO()
    np.save(stream, block)
    return seal(stream.getvalue())


def _read_block(path: Path, shape: tuple[int, int]) -> Array:
    try:
        block: Array = np.load(io.BytesIO(unseal(path.read_bytes(), path)), allow_pickle=False)
    except (InputError, OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: is damaged ({error}); remove it and run the command again") from error
    if block.shape != shape or block.dtype != np.float32:
        raise InputError(f"{path}: holds {block.dtype} {block.shape}, not float32 {shape}; remove it and run again")
    return block
