"""One file a peer: ``run(clip, model, …)`` goes over the clip once and answers with a ``Run``."""
