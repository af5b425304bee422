#!/usr/bin/env bash
# `dvc artifacts get` does not see a lightweight Git tag (dvc 3.67.1, gto 1.10.1). Seen on 2026-11-30.
#
# Expected: an artifact that dvc.yaml declares is found by its version's tag, `policy@v1.0.0`, however the tag was made.
# Seen: after `git tag policy@v1.0.0` DVC ends with an error that it cannot find the artifact, although the tag has the
# right name and points at the right commit. After `git tag -a policy@v1.0.0 -m ...` on the same commit it downloads.
# Without any tag it ends with the same error, so a model that a pipeline has just made cannot be had by its name.
# Exits with an error where this changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check dvc==3.67.1 gto==1.10.1
export PATH="$work/venv/bin:$PATH" GIT_CONFIG_GLOBAL=/dev/null DVC_NO_ANALYTICS=1
for role in AUTHOR COMMITTER; do export "GIT_${role}_NAME=somebody" "GIT_${role}_EMAIL=somebody@example.org"; done
mkdir "$work/repository" "$work/remote"
cd "$work/repository"
git init --quiet
dvc init --quiet
dvc remote add --quiet --default store "$work/remote"
mkdir policy
echo weights > policy/weights.txt
cat > dvc.yaml <<'YAML'
artifacts:
  policy:
    path: policy
    type: model
YAML
dvc add --quiet policy
dvc push --quiet
git add --all
git commit --quiet --message "A policy"

found() {
  rm -rf "$work/got"
  dvc artifacts get "$work/repository" policy --out "$work/got" >"$work/said" 2>&1 && test -f "$work/got/weights.txt"
}

answers=""
found && answers+="found " || answers+="missing "
git tag policy@v1.0.0
found && answers+="found " || answers+="missing "
git tag --delete policy@v1.0.0 >/dev/null
git tag --annotate --message "The first" policy@v1.0.0
found && answers+="found" || answers+="missing"
echo "without a tag, with a lightweight one, with an annotated one: $answers"
test "$answers" = "missing missing found"
echo unchanged
