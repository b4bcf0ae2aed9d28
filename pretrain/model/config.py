"""The configuration of a model, in the format of the released JSON files."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from parsers.checksums import check_file
from parsers.command import InputError, say
from shards.storage.files import write_atomic

Size = Annotated[int, Field(ge=1, le=2**31 - 1)]
DropoutRate = Annotated[float, Field(ge=0, lt=1)]
_MOST_LAYERS = 1000
MOST_PARAMETERS = 10_000_000_000
"""The most parameters of an encoder; large has 0.4 billion. A damaged file must not ask for any amount of memory."""
_LONGEST_VALUE = 120
LayerIds = Annotated[tuple[Annotated[int, Field(ge=0, lt=_MOST_LAYERS)], ...], Field(min_length=1)]
SIZES = Path(__file__).resolve().parents[2] / "configs/model"
"""The folder of the model sizes that come with the project."""
RegionTarget = Literal["distribution", "argmax", "features"]
"""What pretraining predicts of a masked region: the detector's class distribution (Kullback-Leibler divergence, as in
the paper), its most likely class (cross-entropy), or the features themselves (mean squared error, as in UNITER)."""


class ModelConfig(BaseModel):
    """The sizes of a model. Field names are the keys of the released ``ernie_vil_config.*.json``, and three more.

    The stack is laid out by ``t_biattention_id`` and ``v_biattention_id``: before co-layer k the text stream has run
    ``t_biattention_id[k]`` of its layers and the image stream ``v_biattention_id[k]``. One more layer of each stream
    follows the last co-layer.

    Raises:
        pydantic.ValidationError (a ValueError): a key is missing, unknown or out of range, or two keys contradict.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    # Text stream. The feed-forward width is not a key: it is 4 * hidden_size.
    vocab_size: Size
    max_position_embeddings: Size
    sent_type_vocab_size: Size
    hidden_size: Size
    num_attention_heads: Size
    t_biattention_id: LayerIds

    # Image stream. The released code hard-codes 2048 for v_feature_size, so its files lack this one key.
    v_feature_size: Size = 2048
    v_hidden_size: Size
    v_num_attention_heads: Size
    v_intermediate_size: Size
    v_biattention_id: LayerIds

    # Attention between the streams; co_hidden_size is also the width of both pooled vectors.
    co_hidden_size: Size
    co_num_attention_heads: Size

    # Region classes of the pretraining head: 1600 Visual Genome classes and background.
    class_size: Size

    # What the model was pretrained on; not in the released files, and without effect on the encoder.
    region_target: RegionTarget | None = None
    max_text: Size | None = None
    token_match: bool | None = None

    hidden_act: Literal["gelu"] = "gelu"
    hidden_dropout_prob: DropoutRate
    attention_probs_dropout_prob: DropoutRate
    initializer_range: Annotated[float, Field(gt=0)]

    # Keys of the released files that have no effect on the model, there as here.
    num_hidden_layers: Size | None = None
    type_vocab_size: Size | None = None
    task_type_vocab_size: Size | None = None
    co_intermediate_size: Size | None = None
    class_attr_size: Size | None = None

    @property
    def num_text_layers(self) -> int:
        """Number of self-attention layers of the text stream, co-layers not counted."""
        return self.t_biattention_id[-1] + 1

    @property
    def num_image_layers(self) -> int:
        """Number of self-attention layers of the image stream, co-layers not counted."""
        return self.v_biattention_id[-1] + 1

    @property
    def num_co_layers(self) -> int:
        """Number of co-layers, in which the two streams attend to each other."""
        return len(self.t_biattention_id)

    @property
    def region_outputs(self) -> int:
        """How many numbers pretraining predicts of a region: its feature size, or the number of its classes."""
        return self.v_feature_size if self.region_target == "features" else self.class_size

    @property
    def intermediate_size(self) -> int:
        """Feed-forward width of the text stream, also in the co-layers; the released code hard-codes it."""
        return 4 * self.hidden_size

    @property
    def parameters(self) -> int:
        """Number of the encoder's parameters, but for biases, layer norms and poolers."""
        text, image, co = self.hidden_size, self.v_hidden_size, self.co_hidden_size
        rows = self.vocab_size + self.max_position_embeddings + self.sent_type_vocab_size
        text_inner, image_inner = 2 * text * self.intermediate_size, 2 * image * self.v_intermediate_size
        return (
            rows * text
            + self.v_feature_size * image
            + self.num_text_layers * (4 * text**2 + text_inner)
            + self.num_image_layers * (4 * image**2 + image_inner)
            + self.num_co_layers * (4 * co * (text + image) + text_inner + image_inner)
        )

    @model_validator(mode="after")
    def _check_size(self) -> Self:
        if self.parameters > MOST_PARAMETERS:
            raise ValueError(
                f"the sizes make an encoder of {self.parameters:,} parameters; at most {MOST_PARAMETERS:,} are possible"
            )
        return self

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        for width_key, heads_key in (
            ("hidden_size", "num_attention_heads"),
            ("v_hidden_size", "v_num_attention_heads"),
            ("co_hidden_size", "co_num_attention_heads"),
        ):
            width, heads = getattr(self, width_key), getattr(self, heads_key)
            if width % heads:
                raise ValueError(
                    f"{width_key} {width} does not divide into {heads} heads; "
                    f"make it a multiple of {heads_key}, e.g. {width - width % heads + heads}"
                )
        return self

    @model_validator(mode="after")
    def _check_layout(self) -> Self:
        for key in ("t_biattention_id", "v_biattention_id"):
            ids = getattr(self, key)
            if list(ids) != sorted(set(ids)):
                raise ValueError(f"{key} {list(ids)} does not increase; list each layer once, lowest first")
        if len(self.t_biattention_id) != len(self.v_biattention_id):
            raise ValueError(
                f"t_biattention_id has {len(self.t_biattention_id)} entries and v_biattention_id "
                f"{len(self.v_biattention_id)}; give both one entry for each co-layer"
            )
        return self

    def check_vocabulary(self, path: Path, pieces: int) -> None:
        """Checks that the model has a row for each word piece. Says so if it has rows beyond the vocabulary.

        Args:
            path: of the vocabulary.
            pieces: number of its word pieces.

        Raises:
            InputError: there are more word pieces than rows.
        """
        if pieces > self.vocab_size:
            raise InputError(
                f"{path}: holds {pieces:,} word pieces, but the model has rows for {self.vocab_size:,}; "
                "take the vocab.txt that the model was trained with"
            )
        if pieces < self.vocab_size:
            say(
                f"{path}: holds {pieces:,} word pieces, and the model has rows for {self.vocab_size:,}: the others are "
                "never used. If the model was not padded, this is the vocabulary of another one"
            )

    @classmethod
    def of_size(cls, name: str) -> ModelConfig:
        """Reads a size of ``configs/model``, such as ``base``, or a file.

        Raises:
            InputError: there is neither such a size nor such a file, or it is no valid configuration.
        """
        named = SIZES / f"{name}.json"
        path = named if named.is_file() else Path(name)
        if not path.is_file():
            known = sorted(file.stem for file in SIZES.glob("*.json"))
            similar = difflib.get_close_matches(name, known, n=1)
            meant = f"; did you mean {similar[0]}?" if similar else ""
            raise InputError(f"{name}: neither a file nor one of {', '.join(known)}{meant}")
        return cls.load(path)

    @classmethod
    def load(cls, path: str | Path) -> ModelConfig:
        """Reads a configuration file. Says so if ``num_hidden_layers`` and the layout differ: the released code reads
        the layout alone.

        Raises:
            InputError: the file cannot be read, is no JSON object or no valid configuration; names the file and every
                wrong key.
        """
        check_file(Path(path))
        try:
            config = cls.model_validate_json(Path(path).read_bytes())
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error
        except ValidationError as error:
            reasons = "".join(f"\n  {_explain(detail)}" for detail in error.errors())
            raise InputError(f"{path} is not a valid model configuration:{reasons}") from error
        if config.num_hidden_layers not in (None, config.num_text_layers):
            say(
                f"{path}: num_hidden_layers {config.num_hidden_layers} has no effect; t_biattention_id ends with "
                f"{config.t_biattention_id[-1]}, which makes {config.num_text_layers} text layers"
            )
        return config

    def save(self, path: str | Path) -> None:
        """Writes the configuration so that `load` gives it back. Keys that were absent stay absent."""
        write_atomic(Path(path), (self.model_dump_json(indent=2, exclude_none=True) + "\n").encode())


def _explain(detail: ErrorDetails) -> str:
    """Returns one line that says what is wrong with which key, and what to do."""
    key = ".".join(str(part) for part in detail["loc"])
    match detail["type"]:
        case "extra_forbidden":
            similar = difflib.get_close_matches(key, ModelConfig.model_fields, n=1)
            return f"{key}: unknown key; " + (f"did you mean {similar[0]}?" if similar else "remove it")
        case "missing":
            return f"{key}: missing; add it (configs/model/base.json has every key)"
        case "value_error":
            return detail["msg"].removeprefix("Value error, ")
        case "json_invalid":
            return detail["msg"]
        case _:
            return f"{key}: {detail['msg']}, but it is {detail['input']!r:.{_LONGEST_VALUE}}" if key else detail["msg"]
