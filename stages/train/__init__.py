"""Train a distance network through DeepSpeed and hand it on as network.safetensors + json."""
