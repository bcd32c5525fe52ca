"""Makes one report of the runs of all folds, over the records that each of them has held out.

    for i in 1 2 3 4 5; do python -m trainer.main --data=data/chest_xray --fold=$i/5; done
    python -m trainer.pool --out=pooled runs/chest_xray-cnn-fold-?-of-5

Each image of train and val is predicted once, by the model that was not trained on it or on its group. The
figures are at a threshold of 0.5: one that is chosen on these predictions would flatter them. The test split
is not read.
"""

from pathlib import Path

from data_pipeline.fetch import end_process
from data_pipeline.quiet import quiet_start
from tfrecords.command import define_path, run

_OUT = define_path("out", None, "The folder to write the report into.", required=True)
_DATA = define_path(
    "data",
    None,
    "The folder of the conversion that the runs have divided, if it was moved. Default: where it was.",
)


def main(arguments: list[str]) -> None:
    """Parses the flags and pools."""
    with quiet_start():
        from trainer.pool.pooling import PoolOptions, pool_runs
    options = PoolOptions(
        tuple(Path(argument) for argument in arguments),
        Path(_OUT.value),
        Path(_DATA.value) if _DATA.value else None,
    )
    evaluation = pool_runs(options)
    print(f"{evaluation.text}\n\nreport: {evaluation.page}")
    end_process()


if __name__ == "__main__":
    run(main, positional="run directories", paths=True)
