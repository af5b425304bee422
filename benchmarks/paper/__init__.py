"""The paper-scale benchmark: every backbone, method and signal of the LE on two data sets."""
