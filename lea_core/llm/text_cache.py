"""A cache of arrays computed from each text: a text that was computed by an earlier run gets exactly the same numbers.

In: texts as token ids, and a function that computes named arrays of new texts. Out: the arrays of all texts. Under
`texts/` in the cache folder there is one safetensors file (checkpoints.py) for each set of inputs beside the text.

The last digits of a text's numbers depend on the batch in which it is computed. So the cache not only saves time: when
one text changes, the numbers of the others stay exactly the same, and so does everything that is cached by them.
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
    """Cached arrays of one kind, such as pooled vectors.

    `module` computes them. `identity` is everything else that they depend on beside the text, as JSON (checkpoints.py).
    `shapes` maps the name of each array to the shape of one text's row; all are float32.
    """

    def __init__(
        self, kind: str, module: str, identity: Mapping[str, object], shapes: Mapping[str, tuple[int, ...]]
    ) -> None:
        self._saved = Checkpoint(kind, module, identity, "texts")
        self._shapes = dict(shapes)

    def complete(self, rows: list[list[int]], compute: Callable[[np.ndarray], Arrays]) -> Arrays:
        """Arrays of all `rows` of token ids, (N, ...) each.

        `compute(indices)` returns the arrays of the rows at `indices`. It is called once, or not at all where all rows
        are known. Equal rows are one text.
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
        """The cached `keys` (M, 16) uint8 and arrays (M, ...) float32; M is 0 where nothing is cached."""
        empty: Arrays = {name: np.zeros((0, *shape), dtype=np.float32) for name, shape in self._shapes.items()}
        empty[KEYS] = np.zeros((0, 16), dtype=np.uint8)
        if (saved := self._saved.load()) is None:
            return empty
        arrays = saved[0]
        count = len(arrays[KEYS]) if KEYS in arrays else 0
        form = {name: ((count, *array.shape[1:]), array.dtype) for name, array in empty.items()}
        if {name: (array.shape, array.dtype) for name, array in arrays.items()} != form:
            warn("cache folder: cached texts of another form: they are computed again")
            return empty
        return arrays
