"""A policy folder of six items."""

from pathlib import Path

import numpy as np
import torch

from lea_core.models.policy_network import PolicyConfig, PolicyNetwork
from lea_core.serving.folder import Vocabulary, seal, write_vocabulary
from tests.models.test_policy_network import SETTINGS

IDS = ["a", "b", "c", "10", "11", "12"]
COUNTS = np.array([3, 9, 1, 9, 0, 2])
INDEX = {name: item for item, name in enumerate(IDS)}


def write_policy(folder: Path, backbone: str = "sasrec", ids: list[str] = IDS, history: int = 3) -> PolicyNetwork:
    torch.manual_seed(0)
    network = PolicyNetwork(PolicyConfig(backbone, SETTINGS[backbone], len(ids), history, repeat_bias=True))
    for weight in network.parameters():
        torch.nn.init.normal_(weight)
    folder.mkdir(exist_ok=True)
    network.save(folder)
    write_vocabulary(folder, Vocabulary(ids, np.resize(COUNTS, len(ids))))
    seal(folder)
    return network.eval()
