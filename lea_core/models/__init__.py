"""The small networks that ship: backbones and the policy."""
