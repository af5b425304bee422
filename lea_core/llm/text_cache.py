"""What was computed of each text, for later runs: a text that comes again gets exactly its former numbers.

In: texts as token ids, and a function that computes named arrays of new ones. Out: the arrays of all texts; and, under
`texts/` in the cache folder, one safetensors file (checkpoints.py) for all that the numbers depend on beside the text.

Numbers of one text differ in their last digits with the batch that it is computed in. So computing only new texts saves
time, and it keeps the numbers of the others, and all that is cached by them, when one text changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import blake2b

import numpy as np

from lea_core.common.checkpoints import Checkpoint
from lea_core.common.errors import warn

KEYS = "keys"
Arrays = dict[str, np.ndarray]


class TextCache:
    """The kept numbers of one kind, such as pooled vectors.

    `module` computes them; `identity` is all else that they depend on beside the text, as JSON values (checkpoints.py).
    `shapes` has for every array its name and the shape of one text's row, float32.
    """

    def __init__(
        self, kind: str, module: str, identity: Mapping[str, object], shapes: Mapping[str, tuple[int, ...]]
    ) -> None:
        self._saved = Checkpoint(kind, module, identity, "texts")
        self._shapes = dict(shapes)

    def complete(self, rows: list[list[int]], compute: Callable[[np.ndarray], Arrays]) -> Arrays:
        """Arrays of all `rows` of token ids, (N, ...) each.

        `compute(indices)` gives the arrays of the rows at `indices`; it is called, once, where some are not known.
        Equal rows are one text.
        """
        known = self._load()
        places = {key.tobytes(): place for place, key in enumerate(known[KEYS])}
        keys = [blake2b(np.array(row, dtype=np.int64).tobytes(), digest_size=16).digest() for row in rows]
        new: dict[bytes, int] = {}
        for index, key in enumerate(keys):
            if key not in places:
                new.setdefault(key, index)
        if new:
            found = compute(np.array(list(new.values())))
            found[KEYS] = np.frombuffer(b"".join(new), dtype=np.uint8).reshape(-1, 16)
            known = {name: np.concatenate([array, found[name]]) for name, array in known.items()}
            places |= {key: len(places) + place for place, key in enumerate(new)}
            self._saved.save(known, {})
        chosen = np.array([places[key] for key in keys], dtype=np.int64)
        return {name: known[name][chosen] for name in self._shapes}

    def _load(self) -> Arrays:
        """What is kept: `keys` (M, 16) uint8 and the other arrays, (M, ...) float32; M is 0 where nothing is."""
        empty: Arrays = {name: np.zeros((0, *shape), dtype=np.float32) for name, shape in self._shapes.items()}
        empty[KEYS] = np.zeros((0, 16), dtype=np.uint8)
        if (saved := self._saved.load()) is None:
            return empty
        arrays = saved[0]
        count = len(arrays[KEYS]) if KEYS in arrays else 0
        form = {name: ((count, *array.shape[1:]), array.dtype) for name, array in empty.items()}
        if {name: (array.shape, array.dtype) for name, array in arrays.items()} != form:
            warn("cache folder: kept texts of another form: they are computed anew")
            return empty
        return arrays
