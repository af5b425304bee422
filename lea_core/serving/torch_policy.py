"""The torch runtime of a policy: load a folder, recommend.

In: a policy folder (folder.py); histories. Out: `Recommendations` (recommender.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import numpy as np
import torch

from lea_core.common.artifacts import read_json, read_tensors
from lea_core.common.errors import LeaError
from lea_core.common.registry import BACKBONES
from lea_core.metrics.top_k import best_items
from lea_core.models.policy_network import PolicyConfig, PolicyNetwork, without_weights
from lea_core.serving.folder import (
    MEND,
    Vocabulary,
    check_folder,
    other_version,
    read_exclude_seen,
    read_vocabulary,
)
from lea_core.serving.histories import Histories
from lea_core.serving.recommender import Recommender

SCORES_AT_ONCE = 2**22  # scores in memory at a time, 16 MiB: mostly fits into the processor's cache
LARGEST = {"num_items": 2**31 - 1, "history": 2**16}
LARGEST_SETTING = 2**16  # of a backbone's whole numbers: a hostile file must not cost hours
LARGEST_COUNT = 256  # layers, entries of a list


class Policy(Recommender):
    """A policy with its vocabulary: item ids in, item ids out."""

    scores_at_once = SCORES_AT_ONCE

    def __init__(self, network: PolicyNetwork, vocabulary: Vocabulary, exclude_seen: bool = True) -> None:
        super().__init__(vocabulary, exclude_seen)
        self.network = network.eval()

    @classmethod
    def load(cls, folder: Path | str, device: str = "cpu") -> Policy:
        """Read a policy folder. Raises `LeaError` where it is broken, has changed, or is of another version."""
        folder = Path(folder)
        listed = check_folder(folder)
        if "policy.safetensors" not in listed:
            raise LeaError(f"{folder}: has no policy.safetensors: name a policy folder, not one that was exported")
        config = read_config(folder / "policy.json")
        network = read_network(folder / "policy.safetensors", config)
        vocabulary = read_vocabulary(folder, config.num_items)
        return cls(network.to(device), vocabulary, read_exclude_seen(folder, listed))

    @property
    def config(self) -> PolicyConfig:
        """What the network was built of."""
        return self.network.config

    @torch.inference_mode()
    def _best(self, found: Histories, rows: np.ndarray, k: int, exclude_seen: bool) -> tuple[np.ndarray, np.ndarray]:
        """Items (b, k), -1 where there are fewer, and scores (b, k), NaN there, of these histories, none empty."""
        scores = self.network.scores(found.newest(rows, self.config.history))
        best, values = best_items(scores, k, found.of(rows) if exclude_seen else None)
        return best.cpu().numpy(), values.masked_fill(best < 0, torch.nan).cpu().numpy()


def read_config(path: Path) -> PolicyConfig:
    """Read policy.json. Raises `LeaError` where it does not describe a network that this version can build."""
    raw = read_json(path)
    if raw.keys() != set(PolicyConfig.__dataclass_fields__):
        keys = ", ".join(sorted(raw)) or "empty"
        raise LeaError(f"{path}: not a policy's description, but {keys}: {other_version(path.parent)}")
    kind, settings = raw["backbone"], raw["settings"]
    if not isinstance(kind, str) or kind not in BACKBONES:
        raise LeaError(f"{path}: backbone {kind!r} is unknown: {other_version(path.parent)}")
    for name, largest in LARGEST.items():
        _check_number(path, name, raw[name], largest)
    wanted = get_type_hints(BACKBONES.load(kind).Settings, include_extras=True)
    if not isinstance(settings, dict) or sorted(settings) != sorted(wanted):
        raise LeaError(f"{path}: settings are not those of {kind}, {', '.join(wanted)}: {MEND}")
    for name, value in settings.items():
        _check_setting(path, name, value, wanted[name])
    if not isinstance(raw["repeat_bias"], bool):
        raise LeaError(f"{path}: repeat_bias is {raw['repeat_bias']!r}, not true or false: {MEND}")
    return PolicyConfig(**raw)


def _check_setting(path: Path, name: str, value: Any, annotation: Any) -> None:
    kind, *bounds = get_args(annotation) if get_origin(annotation) is Annotated else (annotation,)
    if kind in (float, bool, str):
        given = type(value) is kind or (kind is float and type(value) is int)
        if not given or not all(bound.admits(value) for bound in bounds):
            words = ", ".join(map(str, bounds)) or f"a {kind.__name__}"
            raise LeaError(f"{path}: settings.{name} is {value!r}, not {words}: {MEND}")
        return
    values = value if isinstance(value, list) else [value]
    if not 0 < len(values) <= LARGEST_COUNT:
        raise LeaError(f"{path}: settings.{name} has {len(values)} entries, not 1 to {LARGEST_COUNT}: {MEND}")
    for one in values:
        _check_number(path, f"settings.{name}", one, LARGEST_COUNT if name == "layers" else LARGEST_SETTING)


def _check_number(path: Path, name: str, value: Any, largest: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= largest:
        raise LeaError(f"{path}: {name} is {value!r}, not a whole number from 1 to {largest}: {MEND}")


def read_network(path: Path, config: PolicyConfig) -> PolicyNetwork:
    """Read the weights into a network of `config`, ready to score.

    The network is first built without memory, so that a wrong size is refused before it needs any. Raises `LeaError`
    where names, shapes or types differ, or a number is not finite.
    """
    try:
        network = without_weights(config)
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:  # torch's layers refuse settings by any
        raise LeaError(f"{path.with_name('policy.json')}: builds no network ({error}): {MEND}") from None
    arrays = read_tensors(path)
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    for name in sorted(wanted.keys() ^ arrays.keys()):
        problem = "lacks" if name in wanted else "has"
        raise LeaError(f"{path}: {problem} {name}, unlike the network of policy.json: {MEND}")
    for name, array in arrays.items():
        if array.shape != wanted[name] or array.dtype != np.float32:
            raise LeaError(f"{path}: {name} is {array.dtype} {array.shape}, not float32 {wanted[name]}: {MEND}")
        if not np.isfinite(array).all():
            raise LeaError(f"{path}: {name} holds a number that is infinite or none: train the policy again")
    network.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()}, assign=True)
    network.eval()
    try:
        with torch.inference_mode():
            network(torch.zeros((1, 1), dtype=torch.int64))  # settings that fit no layer, such as odd heads, show here
    except (RuntimeError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise LeaError(f"{path.with_name('policy.json')}: describes no network that runs ({reason}): {MEND}") from None
    return network
