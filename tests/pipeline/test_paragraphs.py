"""Paragraphs, whose objects have several mentions, through the whole chain: table, shards, tools, masks."""

import json
import re
from collections import Counter
from html.parser import HTMLParser

import numpy as np
import pytest
from typer.testing import CliRunner

import shards.edit.__main__ as edit
import shards.inspect.__main__ as inspect
from parsers.graph import Object, SceneGraph
from pipeline.execution.engines import Engine
from pipeline.execution.executor import run_stage
from pipeline.statistics.stage import StatisticsStage
from pretrain.data.batches import Collator
from pretrain.data.pairs import Pairs
from pretrain.probes import find_probes
from pretrain.recipe import Masking
from shards.nodes import list_nodes, list_spans
from shards.reader import ShardSet
from shards.schema import KINDS, Caption
from shards.stage_folder import read_statistics
from tests.parsers.graphs import gold_graphs
from tests.pipeline.pack.tables import SPECIAL, graphs_folder, make_row, pack, regions_folder

GRAPHS = gold_graphs()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with the graphs and shards of all paragraphs, each of an image of its own."""
    folder = tmp_path_factory.mktemp("paragraphs")
    words = {word for graph in GRAPHS for word in re.findall(r"\w+|[^\w\s]", graph.caption.lower())}
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in [*SPECIAL, *sorted(words)]))
    captions = [(str(number), Caption("p", graph.caption, graph)) for number, graph in enumerate(GRAPHS)]
    graphs = graphs_folder(folder / "graphs", captions[:40], captions[40:])
    regions = regions_folder(folder / "regions", [make_row(str(number), number) for number in range(len(GRAPHS))])
    pack(folder, graphs, regions, shard_size=30)
    return folder


@pytest.fixture(scope="module")
def shards(world):
    return ShardSet(world / "out" / "train")


def run(app, *arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output or result.exception
    return result.output


def test_shards_hold_every_mention(shards):
    run(inspect.app, "verify", shards.location, "--workers", "1")
    vocabulary = shards.vocabulary
    mentions = 0
    for place, graph in zip(shards, GRAPHS, strict=True):
        assert shards.record(*place).captions[0].graph == graph
        masks = shards.masks(*place)
        pieces = [vocabulary[piece] for piece in masks.token_ids]
        for number, node in enumerate(list_nodes(graph)):
            words = [w for span in node.spans for w in re.findall(r"\w+|[^\w\s]", graph.caption[span.start : span.end])]
            assert [pieces[piece] for piece in masks.tokens(number)] == [word.lower() for word in words]
            assert len(masks.runs(number)) <= max(1, len(node.spans))
            mentions += len(masks.runs(number)) if node.kind == 0 else 0
    assert mentions == sum(len(item.spans) for graph in GRAPHS for item in graph.objects) == 2414


def test_a_mention_is_marked_wherever_the_caption_is_shown(shards):
    numbers = [number for number, graph in enumerate(GRAPHS) if max(len(o.spans) for o in graph.objects) > 4]
    assert len(numbers) > 10
    for number in numbers[:5]:
        graph = GRAPHS[number]
        (thing,) = [o for o in graph.objects if len(o.spans) == max(len(o.spans) for o in graph.objects)][:1]
        words = [graph.caption[span.start : span.end].lower() for span in thing.spans]
        output = " ".join(run(inspect.app, "show", shards.location, number).split())
        assert " … ".join(words) in output


class Marks(HTMLParser):
    """Collects the coloured words of captions: their kind, what they say when pointed at, and their number."""

    def __init__(self, text):
        super().__init__()
        self.marks, self.inside = [], []
        self.feed(text)

    def handle_starttag(self, name, attributes):
        if name in ("b", "sup"):
            self.inside.append(name)
        if name == "b":
            self.marks.append({**dict(attributes), "text": "", "number": ""})

    def handle_endtag(self, name):
        if name in ("b", "sup"):
            self.inside.pop()

    def handle_data(self, text):
        if self.inside:
            self.marks[-1]["number" if self.inside[-1] == "sup" else "text"] += text


def test_the_page_says_which_words_mention_one_object(world, shards):
    run(inspect.app, "html", shards.location, "--out", world / "page.html")
    cards = (world / "page.html").read_text().split("<article>")[1:]
    for number, card in zip(np.linspace(0, len(GRAPHS), 100, endpoint=False).astype(int).tolist(), cards, strict=True):
        objects = GRAPHS[number].objects
        shown = Counter((mark["title"], mark["number"]) for mark in Marks(card).marks if mark["number"])
        last = {place: node for node, span in list_spans(GRAPHS[number]) for place in range(span.start, span.end)}
        repeated = [node for node, item in enumerate(objects) if item.mentions]
        expected = Counter(
            (objects[node].lemma, str(1 + repeated.index(node)))
            for node in repeated
            for span in objects[node].spans
            if last[span.end - 1] == node
        )
        assert shown == expected


def test_mentions_are_counted(world, shards):
    output = run(inspect.app, "summary", shards.location)
    assert "mentions of an object" in output
    assert "1 to 9, median 1, mean 1.3" in output
    run_stage(StatisticsStage((world / "graphs",)), world / "statistics", Engine(), max_rejects=0, overwrite=False)
    statistics = read_statistics(world / "statistics")
    objects = sum(len(graph.objects) for graph in GRAPHS)
    assert (statistics["objects"], statistics["further mentions of objects"]) == (objects, 2414 - objects)


def test_what_is_left_of_a_set_keeps_its_mentions(world, shards):
    (world / "gone.txt").write_text("0\n50\n")
    run(edit.app, "remove", shards.location, "--image-ids", world / "gone.txt", "--out", world / "less")
    less = ShardSet(world / "less")
    assert [less.record(*place).captions[0].graph for place in less] == [*GRAPHS[1:50], *GRAPHS[51:]]
    assert CliRunner().invoke(inspect.app, ["diff", shards.location, less.location]).exit_code == 1
    run(inspect.app, "verify", less.location, "--workers", "1")


def test_another_mention_is_another_graph(world, shards, tmp_path):
    (tmp_path / "vocab.txt").write_bytes((world / "vocab.txt").read_bytes())
    graph = GRAPHS[0]
    number, thing = next((n, o) for n, o in enumerate(graph.objects) if o.mentions)
    objects = list(graph.objects)
    objects[number] = Object(thing.lemma, thing.span, thing.mentions[:-1])
    changed = SceneGraph(graph.caption, tuple(objects), graph.attributes, graph.relations)
    captions = [(str(n), Caption("p", g.caption, g)) for n, g in enumerate([changed, *GRAPHS[1:]])]
    pack(tmp_path, graphs_folder(tmp_path / "graphs", captions), world / "regions", shard_size=30)
    result = CliRunner().invoke(inspect.app, ["diff", shards.location, str(tmp_path / "out" / "train")])
    assert result.exit_code == 1
    rows = [line.split("│")[1:3] for line in result.output.splitlines() if line.startswith("│")]
    assert {name.strip(): count.strip() for name, count in rows} == {"graphs": "1", "word pieces": "1"}


@pytest.mark.parametrize(("max_text", "mentions"), [(64, "all"), (64, "one"), (256, "all"), (256, "one")])
def test_batches_hide_mentions(shards, max_text, mentions):
    """Objects are hidden whole, and their attributes and relations are not hidden with them."""
    masking = Masking(word=0, mentions=mentions)
    collator = Collator(shards, seed=1, max_text=max_text, masking=masking, images="own", device_type="cpu")
    text = np.array([(*place, 0) for place in shards])
    zeros = np.zeros(len(text), np.int64)
    all_match, none_false = np.ones(len(text), bool), np.zeros(len(text), bool)
    pairs = Pairs(zeros, text[:, :2], text, all_match, length=zeros, num_boxes=zeros, negative=none_false)
    batch = collator(pairs)
    width = batch.token_ids.shape[1]
    repeated = 0
    for sample, place in enumerate(shards):
        masks = shards.masks(*place)
        own = batch.text_targets // width == sample
        hidden = set((batch.text_targets[own] % width - 1).tolist())
        shown = min(max_text - 2, len(masks.token_ids))
        kinds = dict(zip((batch.text_targets[own] % width - 1).tolist(), batch.text_kinds[own].tolist(), strict=True))
        objects = {
            node: [set(run) & hidden == set(run) for run in masks.runs(node) if run[-1] < shown]
            for node in masks.nodes(0)
            if KINDS[masks.node_kind[node]] == "object"
        }
        alone = Counter(masks.node_tokens.tolist())
        for node, wholes in objects.items():
            if all(alone[piece] == 1 for piece in masks.tokens(node).tolist()) and any(wholes):
                repeated += len(wholes) > 1
                assert sum(wholes) == (len(wholes) if mentions == "all" else 1)
        for piece, kind in kinds.items():
            for node in [n for n in masks.nodes(0) if masks.node_kind[n] == kind and piece in masks.tokens(n)]:
                if alone[piece] == 1:
                    needed = [a for a in masks.node_args[node].tolist() if a >= 0]
                    assert not any(hidden & set(masks.tokens(a).tolist()) for a in needed)
    assert repeated > 20


def test_a_probe_hides_all_mentions(shards):
    longest = max(find_probes(shards, 512), key=lambda probe: (probe.kind == 0, len(probe.answer)))
    graph = GRAPHS[longest.image]
    thing = graph.objects[longest.node]
    words = [w.lower() for s in thing.spans for w in re.findall(r"\w+|[^\w\s]", graph.caption[s.start : s.end])]
    assert [shards.vocabulary[piece] for piece in longest.answer] == words
    assert len(thing.spans) > 6
    fewer = {(p.image, p.node): p for p in find_probes(shards, 32)}
    assert len(fewer[longest.image, longest.node].answer) < len(longest.answer)


def test_a_record_has_mentions_and_scores_only_where_they_say_something(shards):
    record = json.loads(bytes(shards.member(0, 0, "json")))
    objects = record["captions"][0]["graph"]["objects"]
    assert {tuple(node) for node in objects} == {("lemma", "start", "end"), ("lemma", "start", "end", "mentions")}
