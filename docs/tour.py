"""The tour as a program: ``python docs/tour.py FOLDER``. ``python -m tests.tour_page`` makes docs/tour.md of it."""

# ruff: noqa: E402 - each chapter imports what it shows

# %% A world to walk through
#
# The tour follows one caption from its text to what a model sees in the picture. It takes a minute on a CPU. The data
# is a generated world of toys, so nothing has to be downloaded. Five commands make it, as they would for real captions
# and pictures: the regions of the pictures and the scene graphs of the captions become shards, and a part of the
# pictures is held out.

import subprocess
import sys
from pathlib import Path

folder = Path(sys.argv[1])


def ernie_vil(*words: object) -> None:
    """Runs a command as `ernie-vil` does."""
    subprocess.run([sys.executable, "-m", "matcher.command", *map(str, words)], check=True, stdout=subprocess.DEVNULL)


world, shards = folder / "toyworld", folder / "shards"
ernie_vil("toyworld", "--num-images", 1000, "--num-captions", 3, "--max-things", 3, "--out", world)
ernie_vil("regions", world / "regions", "--class-names", world / "class_names.txt", "--out", folder / "regions")
ernie_vil("parse", world / "captions.json", "--out", folder / "graphs")
ernie_vil(
    *("pack", "--graphs", folder / "graphs", "--regions", folder / "regions", "--tokenizer", world / "vocab.txt"),
    *("--held-out-share", 0.1, "--out", shards),
)

# %% Caption to graph
#
# A parser turns a caption into a [scene graph](scene-graph.md): objects, their attributes, and the relations between
# them. Each node names the characters that it stands for.

import parsers

(graph,) = parsers.get("neural").parse(["A small red ball is on the wooden table."])
for thing in graph.objects:
    print("object   ", thing.lemma, thing.spans)
for attribute in graph.attributes:
    print("attribute", graph.objects[attribute.object].lemma, "is", attribute.lemma, attribute.span)
for relation in graph.relations:
    ends = graph.objects[relation.subject].lemma, graph.objects[relation.object].lemma
    print("relation ", ends[0], "–", relation.lemma, "–", ends[1], relation.spans)

# %% Graph to word pieces
#
# The model reads word pieces. [Shards](shards.md) keep the pieces of every caption beside its graph, and for each node
# which pieces it covers. This is a held-out picture of the world; the model will not see it before the last chapter.

from shards.inspect.page import label_nodes
from shards.reader import ShardSet

held_out = ShardSet(shards / "val")
place = next(place for place in held_out if held_out.record(*place)[3][0].graph.relations)
image_id, width, height, captions = held_out.record(*place)
masks = held_out.masks(*place)
pieces = [held_out.vocabulary[i] for i in masks.token_ids[masks.token_offsets[0] : masks.token_offsets[1]]]
print(captions[0].text)
for node, label in zip(masks.nodes(0), label_nodes(captions[0].graph), strict=True):
    print(f"{label:32} {[pieces[i] for i in masks.tokens(node)]}")

# %% Word pieces to masks
#
# Pretraining hides whole nodes: all pieces of an object, an attribute or a relation. What must tell the hidden node
# stays visible: a hidden attribute keeps its object, and a hidden relation both its objects ([masks](masks.md)). These
# are three draws for the same caption:

import numpy as np

from pretrain.data.masking import SpecialTokens, mask_text
from pretrain.recipe import Masking

special = SpecialTokens.of(held_out.vocabulary)
for seed in range(3):
    text = mask_text(
        masks, 0, matched=True, max_text=32, settings=Masking(), special=special, random=np.random.default_rng(seed)
    )
    read = " ".join(held_out.vocabulary[i] for i in text.token_ids)
    print(f"{read}\n    to predict: {[held_out.vocabulary[i] for i in text.labels]}")

# %% Masks to a batch
#
# [The plan](batch-plan.md) says which pairs a step trains on. It follows from the shards, the seed and the number of
# the step, so every process can compute it by itself. A collator reads these pairs, masks and pads them. Row 0 of the
# image is the whole picture.

from pretrain.data.batches import Collator
from pretrain.data.order import BatchPlan
from pretrain.recipe import PretrainRecipe
from pretrain.training.settings import find_recipe

training = ["steps=320", "batch_size=32", "checkpoint_every=1000"]
training += ["optimizer.learning_rate=2e-3", "optimizer.warmup_steps=30"]
hiding = [
    "masking.object=0.5",
    *(f"masking.{kind}=0" for kind in ("attribute", "relation", "word", "region", "mismatch")),
]
changes = training + hiding
recipe = PretrainRecipe.load(find_recipe("demo", "pretrain"), changes)
train = ShardSet(shards / "train")
pairs = BatchPlan.of(recipe, train).batch(0)
batch = Collator.of(recipe, train, "cpu")(pairs)
print(f"step 0 has {len(pairs)} pairs, of which the first three are (shard, row, caption) {pairs.text[:3].tolist()}")
print("token_ids", tuple(batch.token_ids.shape), " features", tuple(batch.features.shape))
print("hidden pieces", len(batch.text_labels))

# %% Batches to a model
#
# Training takes these batches, step after step. So that a minute is enough, this recipe is the demonstration's with a
# single objective: to name hidden objects. `make demo` trains all six objectives, for three minutes.

options = [word for change in changes for word in ("--set", change)]
ernie_vil("pretrain", "--config", "demo", *options, "--shards", shards / "train", "--out", folder / "run")

# %% What the picture changed
#
# Now the first object of some held-out captions is hidden, and the model names it: once with the caption's own picture,
# and once with another one. The words are the same, so what differs comes from the picture. After so short a training
# it is far from always right; the next chapter counts.

import torch

from pretrain.data.masking import hide_node
from pretrain.model.folder import load_model

model = load_model(folder / "run" / "model").eval()
collator = Collator.of(recipe, held_out, "cpu")
places = list(held_out)[:8]
for own, other in zip(places, places[1:] + places[:1], strict=True):
    hidden = hide_node(held_out.masks(*own), 0, max_text=recipe.max_text, special=special)
    with torch.no_grad():
        logits = [
            model(**collator.collate([hidden], np.array([shown])).inputs()).vocabulary_logits for shown in (own, other)
        ]
    answer = held_out.vocabulary[hidden.labels[0]]
    guesses = [held_out.vocabulary[int(of_picture[0].argmax())] for of_picture in logits]
    print(f"{answer:9} own picture: {guesses[0]:9} another picture: {guesses[1]:9}", end=" ")
    print(" ".join(held_out.vocabulary[i] for i in hidden.token_ids[1:-1]))

# %% All held-out objects
#
# A single caption proves little. [The cloze test](cloze.md) hides every object of the held-out pictures, one at a time,
# and counts how often the model's first guess is right.

import json

ernie_vil("cloze", "--model", folder / "run", "--held-out", shards / "val", "--shards", shards / "train")
results = json.loads((folder / "run" / "cloze" / "cloze.json").read_text())["results"]
for shown, accuracies in results["object"].items():
    print(f"{shown:12} {accuracies['acc@1']['nodes']:.0%}")
