# `make demo`, `make demo-tasks`, `make ablation`, `make compositional` and `make test` each work as the only command in a fresh clone; the first installs into .venv (VENV=DIR: elsewhere).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup world demo demo-tasks ablation compositional compositional-tune compositional-world test test-slow fuzz check docs bench bench-full gpu-check clean
.DELETE_ON_ERROR:

setup: $(STAMP)

$(STAMP): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

# A generated world as shards: captions, pictures and regions that nobody has to download. The regions are
# generated with the world (FROM=features), or found in its pictures by a detector that is trained first (FROM=pixels).
FROM ?= features
ifeq ($(FROM),pixels)
WORLD := data/demo-pixels
else ifeq ($(FROM),features)
WORLD := data/demo
else
$(error FROM=$(FROM): there are features and pixels)
endif
RUN := runs/$(notdir $(WORLD))

world: setup
	$(BIN)/python -m pipeline.toyworld --num-images 6000 --num-captions 3 --min-things 2 --max-things 3 --out $(WORLD)/toyworld --overwrite
ifeq ($(FROM),pixels)
	$(BIN)/python -m pipeline.toyworld.train_detector --out $(WORLD)/detector.safetensors
	$(BIN)/python -m pipeline.extract $(WORLD)/toyworld/images --detector toyworld --weights $(WORLD)/detector.safetensors \
		--preview 20 --out $(WORLD)/regions --overwrite
	$(BIN)/python -m pipeline.toyworld.recall $(WORLD)/regions --scenes $(WORLD)/toyworld/scenes.jsonl
else
	$(BIN)/python -m pipeline.regions $(WORLD)/toyworld/regions --class-names $(WORLD)/toyworld/class_names.txt \
		--out $(WORLD)/regions --overwrite
endif
	$(BIN)/python -m pipeline.parse $(WORLD)/toyworld/captions.json --out $(WORLD)/graphs --overwrite
	$(BIN)/python -m pipeline.pack --graphs $(WORLD)/graphs --regions $(WORLD)/regions \
		--tokenizer $(WORLD)/toyworld/vocab.txt --held-out-share 0.1 --out $(WORLD)/shards --overwrite

# The whole chain on that world, from captions to a page that says what the images have brought.
demo: world
	$(BIN)/python -m shards.inspect summary $(WORLD)/shards/train
	$(BIN)/python -m shards.inspect head $(WORLD)/shards/train -n 2
	rm -rf $(RUN) $(RUN)-text && mkdir -p runs
	@echo "pretraining with images; without them at the same time, see $(RUN)-text.log"
	export OMP_NUM_THREADS=1; \
	$(BIN)/python pretrain/run.py --config demo --set images=none \
		--shards $(WORLD)/shards/train --out $(RUN)-text > $(RUN)-text.log 2>&1 & \
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/deepspeed pretrain/run.py --config demo \
		--shards $(WORLD)/shards/train --out $(RUN) && wait $$! || { cat $(RUN)-text.log; exit 1; }
	$(BIN)/python -m pretrain.report --model $(RUN) --config demo --text-only $(RUN)-text \
		--held-out $(WORLD)/shards/val --images $(WORLD)/toyworld/images --out $(RUN)/report
	@echo "Open $(RUN)/report/index.html in a browser. The five tasks on the same world: make demo-tasks"

# The five tasks, from the demonstration's model. What is finished is not trained again.
demo-tasks: setup
	test -d $(RUN)/model || $(MAKE) demo
	$(BIN)/python -m pipeline.toyworld --tasks --seed 1 --num-images 1500 --num-captions 3 --min-things 2 --max-things 3 \
		--out $(WORLD)/tasks --overwrite
	$(BIN)/python -m pipeline.regions $(WORLD)/tasks/regions --class-names $(WORLD)/toyworld/class_names.txt \
		--out $(WORLD)/task-regions --overwrite
	$(BIN)/python -m pipeline.regions $(WORLD)/tasks/tasks/vcr/regions --class-names $(WORLD)/toyworld/class_names.txt \
		--out $(WORLD)/task-gold-regions --overwrite
# One thread: the model is so small that more of them wait for each other.
	OMP_NUM_THREADS=1 $(BIN)/python -m finetune.comparison --world $(WORLD)/tasks --regions $(WORLD)/task-regions \
		--gold-regions $(WORLD)/task-gold-regions --start pretrained=$(RUN) --untrained --out $(RUN)/tasks

# Scene-graph prediction against what it is compared with in docs/ablation.md, whose results it writes. Runs that were
# finished before are not trained again.
ABLATION := $(addprefix configs/pretrain/ablation/,words.yaml random-spans.yaml scene-graph.yaml)
ablation: world
	$(BIN)/python -m pretrain.ablation $(ABLATION) --shards $(WORLD)/shards/train --held-out $(WORLD)/shards/val \
		--out runs/ablation --document docs/ablation.md

# What recipes teach of objects, attributes and relations, in a world whose words do not tell how its things stand; the
# results go to docs/compositional.md. Runs that were finished before are not trained again. The learning rates in the
# recipes are those that compositional-tune has chosen.
APART := data/apart
TOYS_APART := --apart --num-captions 3 --min-things 2 --max-things 3
COMPOSITIONAL := $(addprefix configs/pretrain/compositional/,words.yaml scene-graph.yaml negatives.yaml token-match.yaml)
APART_SHARDS := --shards $(APART)/shards/train --held-out $(APART)/shards/val

compositional-world: setup
	$(BIN)/python -m pipeline.toyworld $(TOYS_APART) --num-images 6000 --out $(APART)/toyworld --overwrite
	$(BIN)/python -m pipeline.regions $(APART)/toyworld/regions --class-names $(APART)/toyworld/class_names.txt \
		--out $(APART)/regions --overwrite
	$(BIN)/python -m pipeline.parse $(APART)/toyworld/captions.json --out $(APART)/graphs --overwrite
	$(BIN)/python -m pipeline.negatives $(APART)/graphs --out $(APART)/negatives --overwrite
	$(BIN)/python -m pipeline.pack --graphs $(APART)/graphs --regions $(APART)/regions --negatives $(APART)/negatives \
		--tokenizer $(APART)/toyworld/vocab.txt --held-out-share 0.1 --out $(APART)/shards --overwrite
	$(BIN)/python -m pipeline.toyworld $(TOYS_APART) --suite --tasks --seed 1 --num-images 3000 --out $(APART)/suite --overwrite
	$(BIN)/python -m pipeline.regions $(APART)/suite/tasks/vcr/regions --class-names $(APART)/toyworld/class_names.txt \
		--out $(APART)/suite-gold-regions --overwrite
	$(BIN)/python -m pipeline.regions $(APART)/suite/regions --class-names $(APART)/toyworld/class_names.txt \
		--out $(APART)/suite-regions --overwrite

compositional-tune: setup
	test -d $(APART)/negatives -a -d $(APART)/suite-regions || $(MAKE) compositional-world
	$(BIN)/python -m pretrain.ablation $(COMPOSITIONAL) $(APART_SHARDS) --seeds 1 --out runs/compositional-tune

compositional: setup
	test -d $(APART)/negatives -a -d $(APART)/suite-regions || $(MAKE) compositional-world
	$(BIN)/python -m finetune.compose.study $(COMPOSITIONAL) $(APART_SHARDS) --world $(APART)/suite \
		--regions $(APART)/suite-regions --gold-regions $(APART)/suite-gold-regions --out runs/compositional \
		--document docs/compositional.md

# Two at a time, file by file, each with one thread: more would wait for each other.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" --numprocesses 2 --dist loadfile

test-slow: setup
	$(BIN)/python -m pytest -m slow

# Damaged inputs for every reader and every command. FUZZ=--first 17 --cases 1 runs one case again.
FUZZ ?= --cases 10000 --commands 500 --lines 2000 --minutes 120 --keep runs/fuzz

fuzz: setup
	$(BIN)/python -m tests.fuzz $(FUZZ)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site, in build/docs. A dead link, a dead anchor or a page that nothing leads to is an error.
docs: setup
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -c docs . build/docs
	@echo "Open build/docs/index.html in a browser."

# Captions to time the parsers on; the toy world's if there are no others.
CAPTIONS ?= $(wildcard ../shared/data/captions/captions_val2017.json ../shared/data/captions/cc3m_validation.tsv)

# Pictures to time the extractor on, likewise.
PICTURES ?= $(wildcard ../shared/data/images)

# How often everything is timed. Once is only to see that it runs: then the inputs are small, and the page is not that of the docs.
ROUNDS ?= 3
ifeq ($(ROUNDS),1)
SMALL_PARSE := --num-captions 400
SMALL_MODEL := --size tiny --batch-size 4
SMALL_RETRIEVAL := --size tiny --strata 1
SMALL_SHARDS := --num-images 500
SMALL_LOADER := --size tiny --num-images 250 --epochs 1
SMALL_TRAINING := --size tiny --steps 5
SMALL_EXTRACT := --num-images 3
SMALL_REGIONS := --num-images 20
SMALL_PACK := --num-images 200
SMALL_ORDER := 200000
TOYS := 200
MEASURED := runs/bench
BENCHMARKS := runs/bench.md
else
TOYS := 2000
MEASURED := benchmarks/measured
BENCHMARKS := docs/benchmarks.md
endif

bench bench-full: export COLUMNS := 120
KEEP_MEMORY := MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=-1

bench: setup
	test -n "$(CAPTIONS)" -a -n "$(PICTURES)" || \
		$(BIN)/python -m pipeline.toyworld --num-images $(TOYS) --out data/bench/toyworld --overwrite
	$(BIN)/python -m benchmarks.parse $(or $(CAPTIONS),data/bench/toyworld/captions.json) --rounds $(ROUNDS) $(SMALL_PARSE) \
		--out $(MEASURED)/parse.json
# Freed memory stays with the process, for all contestants: else a sixth of a step on a CPU goes into page faults.
	$(KEEP_MEMORY) $(BIN)/python -m benchmarks.model --rounds $(ROUNDS) $(SMALL_MODEL) --out $(MEASURED)/model.json
	$(KEEP_MEMORY) $(BIN)/python -m benchmarks.retrieval --rounds $(ROUNDS) $(SMALL_RETRIEVAL) --out $(MEASURED)/retrieval.json
	$(BIN)/python -m benchmarks.startup --rounds $(ROUNDS) --out $(MEASURED)/startup.json
	$(BIN)/python -m benchmarks.regions --rounds $(ROUNDS) $(SMALL_REGIONS) --out $(MEASURED)/regions.json
	$(BIN)/python -m benchmarks.shards --rounds $(ROUNDS) $(SMALL_SHARDS) --out $(MEASURED)/shards.json
	$(KEEP_MEMORY) $(BIN)/python -m benchmarks.loader --rounds $(ROUNDS) $(SMALL_LOADER) --out $(MEASURED)/loader.json
	$(KEEP_MEMORY) $(BIN)/python -m benchmarks.training --rounds $(ROUNDS) $(SMALL_TRAINING) --out $(MEASURED)/training.json
	$(BIN)/python -m benchmarks.extract $(or $(PICTURES),data/bench/toyworld/images) --rounds $(ROUNDS) $(SMALL_EXTRACT) \
		--out $(MEASURED)/extract.json
	$(BIN)/python -m benchmarks.results $(MEASURED) $(BENCHMARKS)

# And what takes minutes, or tens of gigabytes of disk.
bench-full: bench
	$(KEEP_MEMORY) $(BIN)/python -m benchmarks.step_costs --rounds $(ROUNDS) $(SMALL_MODEL) --out $(MEASURED)/step_costs.json
	$(BIN)/python -m benchmarks.pack $(or $(SMALL_PACK),--num-images 25000 --num-images 50000) --out $(MEASURED)/pack.json
	$(BIN)/python -m benchmarks.order measure --samples $(or $(SMALL_ORDER),100000000) --out $(MEASURED)/order.json
	$(BIN)/python -m benchmarks.results $(MEASURED) $(BENCHMARKS)

# What a machine with a GPU shows, in less than ten minutes; see docs/gpu.md. With an interpreter that has PyTorch already,
# nothing is installed: make gpu-check INTERPRETER=python3
gpu-check: $(if $(INTERPRETER),,setup)
	$(or $(INTERPRETER),$(BIN)/python) -m benchmarks.gpu --out runs/gpu-check --minutes 9

clean:
	rm -rf $(VENV) build dist *.egg-info
