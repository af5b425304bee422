#!/usr/bin/env bash
# dvc 3.67.1: what a removed `foreach` entry wrote stays, and a stage on the folder around it reads it. Seen on 2026-12-01.
#
# Expected: after an entry is taken out of the list, `dvc repro` gives what a fresh clone of the same commit gives. Seen:
# DVC forgets the entry's stage and leaves its output on disk, and `dvc status` says that all is up to date. A stage that
# depends on the whole folder runs again and reads the leftover. So dvc.lock holds a hash that no clone can get, and there
# the stage runs again, with another result. Exits with an error where this changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check dvc==3.67.1
export PATH="$work/venv/bin:$PATH" GIT_CONFIG_GLOBAL=/dev/null DVC_NO_ANALYTICS=1
for role in AUTHOR COMMITTER; do export "GIT_${role}_NAME=somebody" "GIT_${role}_EMAIL=somebody@example.org"; done
mkdir "$work/repository"
cd "$work/repository"
git init --quiet
dvc init --quiet
cat > dvc.yaml <<'YAML'
stages:
  train:
    foreach: ${variants}
    do:
      cmd: mkdir -p models && echo ${item} > models/${item}.txt
      outs:
        - models/${item}.txt
  report:
    cmd: cat models/*.txt > report.txt
    deps: [models]
    outs: [report.txt]
YAML
echo "variants: [one, two]" > params.yaml
dvc repro --quiet
echo "variants: [one]" > params.yaml
dvc repro --quiet
here=$(tr '\n' ' ' < report.txt)
dvc status > "$work/status"
git add --all
git commit --quiet --message "One variant"
dvc cache dir > "$work/cache"
git clone --quiet . "$work/clone"
cd "$work/clone"
dvc cache dir --quiet --local "$(cat "$work/cache")"
dvc checkout --quiet
dvc repro --quiet
there=$(tr '\n' ' ' < report.txt)
echo "the report here: $here; in a clone: $there; status before: $(cat "$work/status")"
test "$here" = "one two " && test "$there" = "one "
grep --quiet "up to date" "$work/status"
echo unchanged
