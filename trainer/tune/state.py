"""The present state of a search for people: an overview from its journal, its claims and its runs."""

import time

from trainer.evaluation.metric_table import LAST, direction
from trainer.lock import LockWatch
from trainer.tune.order import Next, Order, Trial
from trainer.tune.search import Search
from trainer.tune.show.overview import DONE, FAILED, RUNNING, WAITING, Overview, Row
from trainer.tune.trials import Starts, best_of, epochs_done, run_dir, seed_of
from trainer.tune.winner import winner_flags


class Looker:
    """Reads the state of a search, again and again, from any process that sees its folder.

    Args:
        search: the search.
    """

    def __init__(self, search: Search) -> None:
        self._search = search
        self._watches: dict[str, LockWatch] = {}

    def look(self) -> Overview:
        """Returns the search as it is now.

        Raises:
            InputError: its journal is damaged.
        """
        search = self._search
        options = search.options
        order = search.order(search.journal.read())
        rows = tuple(self._row(trial, order) for trial in order.trials)
        best = best_of(search, order)
        over = order.next in (Next.OVER, Next.TOO_MANY_FAILED)
        total = len(order.trials) if over else options.most_trials or search.brackets
        return Overview(
            folder=str(search.folder),
            facts=facts_of(search),
            oracle=options.oracle,
            objective=options.objective,
            direction=options.direction,
            parameters=search.parameters,
            rows=rows,
            max_trials=total,
            over=over,
            best=best.number if best else None,
            seconds_left=None if over else _seconds_left(rows, total),
            winner_flags=winner_flags(search, best) if best else "",
            final=str(order.concluded["text"]) if order.concluded else "",
        )

    def _row(self, trial: Trial, order: Order) -> Row:
        search, executions = self._search, range(self._search.options.executions_per_trial)
        state = trial.state(len(executions)) or WAITING
        ends = [end for end, _ in trial.ends.values()]
        seconds, epochs = sum(end.seconds for end in ends), max((end.epochs for end in ends), default=0)
        if state == WAITING:
            epochs = epochs_done(search, trial.number, executions)
            for execution in set(executions) - set(trial.ends):
                if self._running(trial.number, execution):
                    state = RUNNING
                    starts = Starts(
                        search.claim(claim_name(trial.number, execution)),
                        run_dir(search, trial.number, execution),
                    )
                    seconds += starts.seconds + (max(0.0, time.time() - starts.began) if starts.began else 0)
        ended = max((at for _, at in trial.ends.values()), default=None)
        return Row(
            number=trial.number,
            values=trial.values,
            by=trial.by,
            goes_on_with=trial.goes_on_with,
            seeds=tuple(seed_of(search, trial, execution) for execution in executions),
            state=state,
            score=trial.score if state == DONE else None,
            epochs=epochs,
            most_epochs=trial.epochs,
            seconds=seconds,
            created=trial.created,
            ended=ended if state in (DONE, FAILED) else None,
            message="; ".join(end.message for end in ends if end.message),
        )

    def _running(self, number: int, execution: int) -> bool:
        name = claim_name(number, execution)
        watch = self._watches.setdefault(name, LockWatch(self._search.claim(name)))
        return not watch.look()[0]


def claim_name(number: int, execution: int) -> str:
    """Returns the name of the claim on an execution of a trial."""
    return f"{number:04d}-{execution}"


def facts_of(search: Search) -> dict[str, str]:
    """Returns the facts of a search, by name, in words."""
    options, config = search.options, search.config
    trials = f"at most {options.most_trials}" if options.most_trials else f"{search.brackets} in all brackets"
    repeats = f", {options.executions_per_trial} executions each" * (options.executions_per_trial > 1)
    how = {
        "random": "random: each trial is drawn",
        "hyperband": f"hyperband: one trial in {options.factor} goes on, {options.factor} times as long",
        "bayesian": f"bayesian: modelled once {search.initial_points} trials are done, drawn before",
    }
    kept = (
        "last epoch"
        if config.monitor == LAST
        else f"epoch of the {direction(config.monitor)}imum {config.monitor}"
    )
    return {
        "data": f"{search.data.name}: {config.data_url or config.data}",
        "search": how[options.oracle],
        "objective": f"{options.objective}, {options.direction}imum, in the {kept}",
        "trials": f"{trials}{repeats}, {config.epochs} epochs at most; {options.parallel} open at a time",
        "space": f"{search.space_name}: {', '.join(parameter.name for parameter in search.parameters)}",
        "each trial": (
            f"{config.strategy}, {config.precision}, --cache={config.pipeline.cache}, "
            f"{config.threads_per_process} threads{', deterministic' * config.deterministic}"
        ),
        "seed": str(options.seed),
        "folder": str(search.folder),
    }


def _seconds_left(rows: tuple[Row, ...], total: int) -> float | None:
    """Estimates the seconds left: the trials left, at the mean time of one, over those that run now."""
    done = [row for row in rows if row.state == DONE]
    running = sum(row.state == RUNNING for row in rows)
    if not done or not total or not running:
        return None
    mean = sum(row.seconds for row in done) / len(done)
    spent = sum(min(row.seconds, mean) for row in rows if row.state == RUNNING)
    ended = sum(row.ended is not None for row in rows)
    return max(0.0, (total - ended) * mean - spent) / running
