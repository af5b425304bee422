"""The nouns of LEA: data, the LE, the learners, their losses and their evaluation. See README for the map."""
