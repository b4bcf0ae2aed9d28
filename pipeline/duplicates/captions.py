"""When two captions nearly repeat each other: they have most words and most pairs of neighbouring words in common."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.duplicates.search import unfold_ranges
from shards.schema import Array

MIN_SIMILARITY = 0.7
"""Two captions are alike from this share of common words and pairs on (Jaccard). One of ten words may differ."""
_BANDS, _ROWS = 20, 5
"""MinHash has this many keys for each caption, of this many minima. Captions that are 0.7 alike share a key with a
probability of 97 %, those that are 0.8 alike with one of 99.96 %."""
_random = np.random.default_rng(0)
_FACTORS, _SUMMANDS = _random.integers(1 << 63, size=(2, _BANDS, _ROWS), dtype=np.uint64) * np.uint64(2) + np.uint64(1)


class CaptionIndex:
    """The captions of a corpus, or of a benchmark, by what they have in common. See `pipeline.duplicates.search.Index`.

    Captions of the same words and pairs are one entry. Case, punctuation and Unicode's variants of a character do not
    count. It takes about 200 bytes for each caption.
    """

    tables = _BANDS

    def __init__(self, batches: Iterable[pa.Array]) -> None:
        """Reads the captions.

        Args:
            batches: strings, some at a time.
        """
        parts = [_Tokens.of(batch) for batch in batches]
        lengths = np.concatenate([np.zeros(0, np.int64), *(np.diff(part.offsets) for part in parts)])
        self._tokens = np.concatenate([np.zeros(0, np.uint32), *(part.tokens for part in parts)])
        self._offsets = np.concatenate([[0], np.cumsum(lengths)])
        self._keys = [np.zeros((_BANDS, 0), np.uint32), *(part.keys for part in parts)]
        sums = np.concatenate([np.zeros(0, np.uint64), *(part.sums for part in parts)])
        _, self._rows, entries = np.unique(sums, return_index=True, return_inverse=True)
        if len(self._rows) and lengths[self._rows[0]] == 0:  # captions without a word have the lowest sum, 0
            self._rows, entries = self._rows[1:], entries - 1
        self.entries = entries
        """int64 [captions], the entry of each caption; -1: it has no words"""

    def __len__(self) -> int:
        return len(self._rows)

    def keys(self, table: int) -> Array:
        """See `pipeline.duplicates.search.Index`."""
        keys: Array = np.concatenate([keys[table] for keys in self._keys])[self._rows]
        return keys

    def similarity(self, entries: Array, other: CaptionIndex, others: Array) -> Array:
        """The number of common words and pairs by that of all; see `pipeline.duplicates.search.Index`."""
        sizes, other_sizes = self._sizes(entries), other._sizes(others)
        found = np.zeros(len(entries), np.float32)
        fits = np.minimum(sizes, other_sizes) >= MIN_SIMILARITY * np.maximum(sizes, other_sizes)
        tokens = np.concatenate([self._numbered_tokens(entries[fits]), other._numbered_tokens(others[fits])])
        tokens.sort()
        common = np.bincount((tokens[1:][tokens[1:] == tokens[:-1]] >> 32).astype(np.int64), minlength=int(fits.sum()))
        shares = common / (sizes[fits] + other_sizes[fits] - common)
        found[fits] = np.where(shares >= MIN_SIMILARITY, shares, 0)
        return found

    def _sizes(self, entries: Array) -> Array:
        rows = self._rows[entries]
        sizes: Array = self._offsets[rows + 1] - self._offsets[rows]
        return sizes

    def _numbered_tokens(self, entries: Array) -> Array:
        """uint64: the tokens of each entry in the lower half, and its place in ``entries`` in the upper half."""
        rows = self._rows[entries]
        starts, stops = self._offsets[rows], self._offsets[rows + 1]
        numbers = np.repeat(np.arange(len(rows), dtype=np.uint64), stops - starts)
        numbered: Array = numbers << 32 | self._tokens[unfold_ranges(starts, stops)]
        return numbered


class _Tokens:
    """The words and pairs of some captions as numbers, each once for a caption, and the keys that follow from them."""

    def __init__(self, rows: Array, tokens: Array, count: int) -> None:
        """Computes sums and keys.

        Args:
            rows: int64 [tokens], ascending: the caption of each token.
            tokens: uint32 [tokens].
            count: the number of captions.
        """
        self.tokens = tokens
        self.offsets = np.searchsorted(rows, np.arange(count + 1))
        mixed = _mix(tokens.astype(np.uint64))
        sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(mixed)])
        self.sums = sums[self.offsets[1:]] - sums[self.offsets[:-1]]
        """uint64 [captions]: equal for captions with equal tokens"""
        filled = np.flatnonzero(np.diff(self.offsets))
        self.keys = np.zeros((_BANDS, count), np.uint32)
        for band in range(_BANDS if len(filled) else 0):
            key = np.zeros(len(filled), np.uint64)
            for factor, summand in zip(_FACTORS[band], _SUMMANDS[band], strict=True):
                key = _mix(key ^ np.minimum.reduceat(mixed * factor + summand, self.offsets[filled]))
            self.keys[band, filled] = key >> 32

    @classmethod
    def of(cls, captions: pa.Array) -> _Tokens:
        """Cuts captions into tokens."""
        plain = pc.utf8_lower(pc.utf8_normalize(captions, "NFKC"))
        spaced = pc.utf8_trim_whitespace(pc.replace_substring_regex(plain, r"[^\pL\pM\pN]+", " "))
        lists = pc.utf8_split_whitespace(spaced)
        texts = lists.flatten()
        words, rows = hash_texts(texts), np.repeat(np.arange(len(captions)), lists.value_lengths().to_numpy())
        given = pc.not_equal(texts, "").to_numpy(zero_copy_only=False)  # a caption without words has an empty one
        words, rows = words[given], rows[given]
        neighbours = rows[1:] == rows[:-1]
        pairs = _mix(words[:-1][neighbours] ^ _mix(words[1:][neighbours]))
        tokens = np.concatenate([words, pairs]) >> 32
        numbered = np.unique(np.concatenate([rows, rows[1:][neighbours]]).astype(np.uint64) << 32 | tokens)
        return cls((numbered >> 32).astype(np.int64), numbered.astype(np.uint32), len(captions))


def hash_texts(texts: pa.Array) -> Array:
    """uint64: a number for each text, which follows from the text alone."""
    encoded = texts.dictionary_encode()
    digests = b"".join(
        hashlib.blake2b(text.encode(), digest_size=8).digest() for text in encoded.dictionary.to_pylist()
    )
    hashes: Array = np.frombuffer(digests, "<u8")[encoded.indices.to_numpy()]
    return hashes


def _mix(values: Array) -> Array:
    """Spreads the bits of uint64 numbers (the end of SplitMix64)."""
    values = (values ^ values >> 30) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ values >> 27) * np.uint64(0x94D049BB133111EB)
    mixed: Array = values ^ values >> 31
    return mixed
