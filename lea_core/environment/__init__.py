"""The language model as environment (the LE): state, reward and positive actions; its fine-tuning."""
