#!/usr/bin/env bash
# The second GRU that torch exports to ONNX in a process has a fixed length of time, though it was asked to be dynamic.
#
# Expected: torch.onnx.export(nn.GRU, dynamo=True, dynamic_shapes=...) gives the same graph whenever it is called.
# Seen on 2026-11-30 with torch 2.13.0, onnx 1.23.2, onnxscript 0.7.2 and onnxruntime 1.32.0 (CPU): the first graph answers a
# sequence of any length. The second, of the same module in the same process, is written without an error, and refuses
# every length but the one that it was traced with; so does the first where anything else traced a GRU before it.
#
# A policy on a GRU (GRU4Rec) that is exported by a long-lived process, or by a test after another, is wrong from the
# second time on. Writing the GRU as ONNX's own operation (torch.onnx.ops.symbolic) is not affected.
#
# Exits with 0 while this holds, with 1 when it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
  torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0 numpy==2.4.6
cat > "$work/probe.py" <<'PY'
import io
import logging
import sys
import warnings

import onnxruntime
import torch

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)
torch.manual_seed(0)
gru = torch.nn.GRU(4, 4, batch_first=True).eval()


def lengths_that_work() -> list[int]:
    """Export the GRU, traced at 5 steps, and run the graph at 5 and at 9."""
    batch, steps = torch.export.Dim("batch"), torch.export.Dim("steps")
    file = io.BytesIO()
    program = torch.onnx.export(
        gru, (torch.randn(2, 5, 4),), dynamo=True, dynamic_shapes=({0: batch, 1: steps},), verbose=False
    )
    program.save(file)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
    name, works = session.get_inputs()[0].name, []
    for length in (5, 9):
        inputs = torch.randn(2, length, 4)
        try:
            answer = session.run(None, {name: inputs.numpy()})[0]
        except Exception:
            continue
        if torch.allclose(torch.from_numpy(answer), gru(inputs)[0], atol=1e-5):
            works.append(length)
    return works


first, second = lengths_that_work(), lengths_that_work()
print(f"lengths that the first graph answers: {first}; the second: {second}")
sys.exit(0 if (first, second) == ([5, 9], [5]) else 1)
PY
if "$work/venv/bin/python" "$work/probe.py"; then
  echo "as of 2026-11-30: the second graph of a GRU takes no other length"
else
  echo "changed: the exporter no longer does what this script says" >&2
  exit 1
fi
