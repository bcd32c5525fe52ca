"""Recipe.

The flag that names a file of flags of this package: `trainer/recipes/NAME.txt`, one `--flag=value` a line.
A comment above a flag is the reason for it. The first line of the file, a comment, says what the recipe is.
"""

from pathlib import Path
from typing import Any, Final

from absl import flags

from tfrecords.errors import InputError
from trainer.config import TrainConfig

_FILES: Final = {path.stem: path for path in sorted((Path(__file__).parents[1] / "recipes").glob("*.txt"))}


def title(name: str) -> str:
    """Returns the sentence that says what a recipe is."""
    return _FILES[name].read_text().partition("\n")[0].removeprefix("#").strip()


def lines(name: str) -> dict[str, str]:
    """Returns the values that a recipe sets, by flag, as text.

    Raises:
        InputError: there is no recipe of this name.
    """
    if name not in _FILES:
        raise InputError(
            f"--recipe={name}: must be one of {', '.join(_FILES)}; a file of your own is --flagfile=FILE"
        )
    found = {}
    for line in _FILES[name].read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            flag, _, value = line.strip().removeprefix("--").partition("=")
            found[flag] = value
    return found


_RECIPE = flags.DEFINE_string(
    "recipe",
    TrainConfig.recipe,
    "A set of flags that comes with this package. Flags of the command line win over it; the run records "
    f"what came from it. {' '.join(f'{name}: {title(name)}' for name in _FILES)}",
)


def apply() -> dict[str, Any]:
    """Gives the flags of the recipe that are not on the command line the recipe's values as defaults.

    It must be called before other flags are read.

    Returns:
        what the configuration records of it.

    Raises:
        InputError: there is no recipe of this name.
    """
    if not _RECIPE.value:
        return {}
    chosen = {flag: value for flag, value in lines(_RECIPE.value).items() if not flags.FLAGS[flag].present}
    for flag, value in chosen.items():
        flags.FLAGS.set_default(flag, value)
    return {"recipe": _RECIPE.value, "from_recipe": tuple(chosen)}
