# What a person types; `make` alone lists it. Everything runs in .venv, which `install` makes once.

PYTHON ?= python3
STAMP := .venv/.installed
export PATH := $(CURDIR)/.venv/bin:$(PATH)
MAKEFLAGS += --no-print-directory
# Files of tests side by side; each worker needs up to 1.5 GiB, so there are four at most.
PYTEST := pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: help install run controls test test-engines lint check docs-check tiny benchmark bench-le bench-http bench-annotate bench-scale bench-catalogue bench-evaluation bench-train bench-serve bench-cold search-le tune clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' Makefile

install: $(STAMP) ## .venv with the pinned packages (once; again when pyproject.toml or constraints.txt change)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("error: Python 3.11 or newer is needed, this is %d.%d: use make PYTHON=python3.x" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@echo "Installing the pinned packages into .venv (a minute or two) ..."
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	@.venv/bin/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

run: install ## the whole pipeline on real data with a real language model, then its report
	@lea check
	@dvc repro report export
	@lea report

controls: install ## every part of the LE beside its controls: settings/controls.yaml into params.yaml, pipeline, report
	@lea use settings/controls.yaml
	@dvc repro report export
	@lea report

test: install ## all tests but test-engines, the tiny pipeline in a real DVC repository among them
	@$(PYTEST) -m 'not engines'

test-engines: install ## torchrun and Ray, a worker of each killed (a minute)
	@pytest -m engines

lint: install ## style and types
	@ruff check .
	@ruff format --check .
	@mypy

check: lint ## style, types and the fast tests
	@$(PYTEST) -m 'not slow and not engines'

docs-check: install ## the commands and numbers of README and docs, against data/ and benchmarks/results
	@python -m tests.support.docs_check

tiny: install ## the whole pipeline on 60 users in a temporary folder, then its report
	@python -m tests.support.lane

benchmark: install ## the paper-scale benchmark, a day or more, resumable -> benchmarks/results/{benchmark.csv,benchmark.md,summary.json}
	@python -m benchmarks.paper.run

bench-le: install ## the LE on Amazon Scientific beside its yardsticks -> benchmarks/results/le.json
	@python -m benchmarks.environment.quality

bench-scale: install ## time and memory on logs of up to ten million events -> benchmarks/results/scale.json, docs/scale.png
	@python -m benchmarks.scale.stages

bench-catalogue: install ## time and memory of training with up to a million items -> benchmarks/results/catalogue.{json,md}, docs/catalogue.png
	@python -m benchmarks.scale.catalogue

bench-evaluation: install ## 100,000 users ranked over 100,000 items -> benchmarks/results/evaluation.json
	@python -m benchmarks.scale.evaluation

bench-http: install ## requests a second of examples/serve with fifty clients, of the policy in data/policy
	@lea export --onnx data/policy-onnx
	@python -m examples.serve.load_test data/policy-onnx

bench-train: install ## training speed and quality beside RecBole and RecTools (hours) -> benchmarks/results/train.{json,md}
	@python -m benchmarks.peers.train

bench-cold: install ## items held out of training, added by their texts -> benchmarks/results/cold_start.{json,md}
	@python -m benchmarks.serving.cold_start

bench-serve: install ## latency, throughput, memory and start of the shipped policy, beside the LE (after `make run`) -> benchmarks/results/serve.{json,md}
	@python -m benchmarks.serving.speed

bench-annotate: install ## the packed pass against prompts and a KV cache -> benchmarks/results/annotate.{json,md}
	@python -m benchmarks.annotation.speed

search-le: install ## one setting of the LE after another, on validation -> benchmarks/results/le_search.csv
	@python -m benchmarks.environment.search

tune: install ## settings of every method by the same number of trials, on validation -> benchmarks/results/tuning.md, settings/
	@python -m benchmarks.paper.tune --trials 5

clean: ## remove .venv, data/ and tool caches; DVC's cache stays, so `dvc checkout` brings data/ back
	@rm -rf .venv build lea_recommender.egg-info dvc_plots .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find data -mindepth 1 ! -name .gitkeep -delete
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
