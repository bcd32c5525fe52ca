"""Makes a run directory as a training does, or opens the one that is there."""

from trainer.run import DataFacts, Run


def open_run(config, manifest, facts, *, write, tier=None, precision="", threads=0):
    """Refuses another run in the directory; writes the configuration if `write` (as the chief does)."""
    run = Run(config, DataFacts.of(manifest), facts, tier, precision, threads)
    Run.stored(config, manifest, precision)
    if write:
        run.save()
    return run
