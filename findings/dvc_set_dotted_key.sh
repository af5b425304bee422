#!/usr/bin/env bash
# dvc 3.67.1: `dvc exp run -S` cannot set a key that has a dot in its name. Seen on 2026-12-01.
#
# params.yaml may hold such keys, as overrides of other settings do ("train.rate: 0.1"). Expected: quotes or a backslash
# reach one, as in other tools that take dotted paths. Seen: the plain path, a backslash and quotes are each refused with
# an error. The map around the key can be set as a whole: -S 'variants.x.set={train.rate: 0.2}' changes the key.
# Exits with an error where this changes.
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
cat > params.yaml <<'YAML'
variants:
  x:
    set:
      train.rate: 0.1
YAML
cat > dvc.yaml <<'YAML'
stages:
  copy:
    cmd: cp params.yaml copied.yaml
    params: [variants]
    outs: [copied.yaml]
YAML
dvc repro --quiet
git add --all
git commit --quiet --message "A run"
answers=""
for change in 'variants.x.set.train.rate=0.2' 'variants.x.set.train\.rate=0.2' 'variants.x.set."train.rate"=0.2' \
  'variants.x.set={train.rate: 0.2}'; do
  if ! dvc exp run --quiet -S "$change" >"$work/said" 2>&1; then
    answers+="refused "
  elif grep --quiet "train.rate: 0.2" params.yaml; then
    answers+="set "
  else
    answers+="other "
  fi
  git checkout --quiet --force .
done
echo "plain, backslash, quotes, the map around it: $answers"
test "$answers" = "refused refused refused set "
echo unchanged
