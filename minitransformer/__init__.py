"""minitransformer: a minimal Transformer library to read, import and train with."""
