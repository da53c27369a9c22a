"""What `torch.save` wrote.

`verifier` walks the pickle before anything is built, `unpickler` builds only what `allowlist` names, and `placeholders`
stand where an object could do something.
"""
