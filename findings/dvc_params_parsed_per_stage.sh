#!/usr/bin/env bash
# dvc 3.67.1 parses params.yaml again for every stage that reads it. Seen on 2026-12-01.
#
# Expected: `dvc repro` with nothing to do reads the file once. Seen: once for each stage with a key under `params`, by a
# YAML parser in pure Python; so of 40 stages the file is parsed at least 40 times. With 250 lines of parameters that
# was half of a run that does nothing (.7 of 1.4 s), and each further entry of a `foreach` adds to it. Exits with an error
# where this changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check dvc==3.67.1
export PATH="$work/venv/bin:$PATH" DVC_NO_ANALYTICS=1
mkdir "$work/repository"
cd "$work/repository"
dvc init --quiet --no-scm
{
  echo "names: [$(seq --separator=, 1 40)]"
  for number in $(seq 1 250); do echo "key$number: $number"; done
} > params.yaml
cat > dvc.yaml <<'YAML'
stages:
  write:
    foreach: ${names}
    do:
      cmd: echo ${item} > ${item}.txt
      params: [key1]
      outs:
        - ${item}.txt
YAML
dvc repro --quiet
python - <<'PYTHON'
import time

import dvc.utils.serialize._yaml as reader
from dvc.cli import main

counted = []
parse = reader.parse_yaml


def counting(text, *arguments, **named):
    started = time.perf_counter()
    found = parse(text, *arguments, **named)
    if "key250" in text:
        counted.append(time.perf_counter() - started)
    return found


reader.parse_yaml = counting
started = time.perf_counter()
assert main(["repro", "--quiet"]) == 0
took = time.perf_counter() - started
print(f"params.yaml was parsed {len(counted)} times in {sum(counted):.1f} of {took:.1f} s")
raise SystemExit(len(counted) < 40)
PYTHON
echo unchanged
