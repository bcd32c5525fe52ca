"""The arrows of DESIGN.md, read from the imports of every module, and what STYLE.md says of files."""

import ast
import configparser
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("tfrecords", "data_pipeline", "trainer", "launch")
# Arrows: whose modules each package may import, its own aside.
ARROWS = {
    "tfrecords": set(),
    "data_pipeline": {"tfrecords"},
    "trainer": {"data_pipeline", "tfrecords"},
    "launch": set(),
}
# Of conversion, the pipeline knows only what describes the result.
KNOWN_TO_PIPELINE = {
    "tfrecords",
    *(
        f"tfrecords.{name}"
        for name in (
            *("augment", "command", "errors", "example", "manifest", "records", "signals"),
            *("files", "files.atomic", "files.cache", "files.locks", "files.outputs", "files.urls"),
            "splitmix64",
        )
    ),
}
# Arrows inside a package: which of its folders the rooms of each folder may import, their own aside. The
# rooms that stand in the package itself are free to be imported; the package's own row says what they import.
FOLDERS = {
    "launch": set(),
    "launch.kubernetes": set(),
    "launch.slurm": set(),
    "tfrecords": {"duplicates", "files", "sources", "verification"},
    "tfrecords.audit": set(),
    "tfrecords.convert": {"duplicates", "files", "images", "interop", "sources"},
    "tfrecords.demo": {"convert", "files"},
    "tfrecords.duplicates": {"images", "sources"},
    "tfrecords.files": set(),
    "tfrecords.images": set(),
    "tfrecords.folds": {"files", "interop", "sources"},
    "tfrecords.interop": {"files"},
    "tfrecords.show": {"audit", "duplicates", "files", "text"},
    "tfrecords.sources": {"images", "sources.table"},
    "tfrecords.sources.table": {"images", "sources"},
    "tfrecords.text": set(),
    "tfrecords.verification": {"duplicates", "files", "interop", "sources"},
    "data_pipeline": {"sampling", "stream", "tiers"},
    "data_pipeline.benchmark": {"step", "stream", "tiers"},
    "data_pipeline.sampling": set(),
    "data_pipeline.step": set(),
    "data_pipeline.stream": set(),
    "data_pipeline.tiers": {"sampling", "stream"},
    "data_pipeline.tune": {"tiers"},
    "trainer": {
        *("callbacks", "classical", "devices", "evaluation", "flags", "models", "optimisation", "repeats"),
        *("served", "tensorboard", "workers"),
    },
    "trainer.baseline": {"classical", "evaluation"},
    "trainer.callbacks": {"evaluation", "tensorboard"},
    "trainer.classical": set(),
    "trainer.devices": {"workers"},
    "trainer.evaluation": {"evaluation.shortcut", "evaluation.stress", "models", "served"},
    "trainer.evaluation.shortcut": {"evaluation"},
    "trainer.evaluation.stress": {"evaluation"},
    "trainer.flags": {"evaluation", "models"},
    "trainer.models": set(),
    "trainer.optimisation": set(),
    "trainer.pool": {"evaluation", "evaluation.shortcut", "served"},
    "trainer.predict": {"evaluation"},
    "trainer.repeats": {"evaluation", "models", "served"},
    "trainer.runs": {"evaluation"},
    "trainer.served": {"evaluation", "models"},
    "trainer.tensorboard": {"evaluation", "models"},
    "trainer.tune": {"devices", "evaluation", "flags", "models", "tensorboard", "tune.show"},
    "trainer.tune.show": {"evaluation", "tensorboard"},
    "trainer.workers": set(),
}
# What stands in a command's folder is that command's; the demo data are made by a conversion, as any others.
ALSO_USED_BY = {"tfrecords.convert": {"tfrecords.demo.dataset"}}
MOST_ROOMS = 16  # of a folder, __init__ and commands aside, for these are its doors
# Tests of what no single module does.
SUBJECTS = {
    "launch/slurm": {"command", "jobs"},
    "tfrecords/convert": {"crash", "earlier", "rejects", "stops"},
    "tfrecords/duplicates": {"duplicates"},
    "tfrecords/images": {"fuzz"},
    "trainer": {"killed", "levers", "parity", "refused", "remote", "service", "steps", "stops", "stream"},
    "trainer/served": {"published"},
    "trainer/tune": {"stops", "wrong_spaces"},
}
MAY_TOUCH_FLAGS = {"tfrecords.command", "launch.command"}  # aside from the commands and the folder of flags
FLAGS_OF_TRAINING = "trainer.flags"
LONGEST = 400  # lines

FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for folder in (*PACKAGES, "benchmarks")
    for path in sorted((ROOT / folder).rglob("*.py"))
}
MODULES = {name: path for name, path in FILES.items() if name.split(".")[0] in PACKAGES}


def imports(source, module="", *, package=False):
    """Returns the dotted names that a module's code may import, wherever in it the import stands.

    `from a import b` gives `a` and `a.b`, for b may be a module.
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                up = parts[: len(parts) - node.level + package]
                base = ".".join([*up, *filter(None, [base])])
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            found |= {argument.value for argument in node.args[:1] if isinstance(argument, ast.Constant)}
    return found


def command_of(module):
    """Returns what follows `python -m` for a command: of a folder's `__main__` it is the folder."""
    return module.removesuffix(".__main__")


def folder_of(module):
    """Returns the package or the folder of a package in which a module stands."""
    is_folder = FILES[module].stem == "__init__"
    return module if is_folder else module.rpartition(".")[0]


def circles(arrows):
    """Returns the modules that import themselves by way of others."""

    def reached(module):
        seen, left = set(), [module]
        while left:
            for name in arrows[left.pop()] - seen:
                seen.add(name)
                left.append(name)
        return seen

    return sorted(module for module in arrows if module in reached(module))


def is_command(source):
    return any(
        isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"
        for node in ast.parse(source).body
    )


IMPORTS = {
    name: imports(path.read_text(), name, package=path.stem == "__init__") for name, path in FILES.items()
}
COMMANDS = {name for name, path in FILES.items() if is_command(path.read_text())}
COMMAND_FOLDERS = {command_of(name) for name in COMMANDS if name.endswith(".__main__")}
# A name in `from a.b import c` may be a module or not: of those found, what is a module of ours.
ARROWS_OF_MODULES = {name: IMPORTS[name] & set(MODULES) for name in MODULES}
ROOMS = {
    folder: sorted(
        name
        for name in MODULES
        if folder_of(name) == folder and FILES[name].stem != "__init__" and name not in COMMANDS
    )
    for folder in {folder_of(name) for name in MODULES}
}


def inside(name, package):
    return name == package or name.startswith(package + ".")


def roots(names):
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import a.b as c, d", {"a.b", "d"}),
        ("from a.b import c", {"a.b", "a.b.c"}),
        ("from . import c", {"p.q", "p.q.c"}),
        ("from ..r import c", {"p.r", "p.r.c"}),
        ("def f():\n    import a", {"a"}),
        ("if TYPE_CHECKING:\n    from a import b", {"a", "a.b"}),
        ("importlib.import_module('a.b')", {"a.b"}),
        ("'import a'  # import b", set()),
    ],
)
def test_imports_are_found(source, found):
    assert imports(source, "p.q.m") == found


def test_a_packages_own_imports_are_found():
    assert imports("from .a import b", "p.q", package=True) == {"p.q.a", "p.q.a.b"}


def test_commands_are_found():
    assert is_command('import a\n\nif __name__ == "__main__":\n    a.run()\n')
    assert not is_command("def main():\n    pass\n")
    assert {
        "tfrecords.convert.__main__",
        "tfrecords.verify",
        "tfrecords.show.__main__",
        "trainer.main",
        "trainer.evaluate",
        "trainer.predict.__main__",
    } <= COMMANDS


def test_circles_are_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]


def test_no_circles():
    # That its modules name a package draws no arrow, for its `__init__` imports nothing, but for what hears
    # signals while a command is imported, and that imports nothing of ours.
    doors = [name for name in MODULES if FILES[name].stem == "__init__"]
    assert set().union(*(ARROWS_OF_MODULES[name] for name in doors)) == {"tfrecords.signals"}
    assert not ARROWS_OF_MODULES["tfrecords.signals"]
    assert circles(ARROWS_OF_MODULES) == []


def test_arrows():
    for module in MODULES:
        package = module.split(".")[0]
        assert roots(IMPORTS[module]) & set(PACKAGES) <= ARROWS[package] | {package}, module
        assert not roots(IMPORTS[module]) & {"tests", "benchmarks"}, module


def test_each_arrow_is_there():
    """What the test above looks for is really found: else it could not fail."""
    for package in ("data_pipeline", "trainer"):
        used = {root for module in MODULES if inside(module, package) for root in roots(IMPORTS[module])}
        assert used >= ARROWS[package]


def test_arrows_inside_a_package():
    for module in MODULES:
        package = module.split(".")[0]
        own = folder_of(module)
        found = {
            folder_of(name) for name in ARROWS_OF_MODULES[module] if inside(name, package) and name != package
        }
        allowed = {package, own, *(f"{package}.{folder}" for folder in FOLDERS[own])}
        assert found <= allowed, module


def test_each_arrow_inside_a_package_is_there():
    for folder, allowed in FOLDERS.items():
        package = folder.split(".")[0]
        inside_it = [module for module in MODULES if folder_of(module) == folder]  # commands too
        used = {folder_of(name) for module in inside_it for name in ARROWS_OF_MODULES[module]}
        assert {f"{package}.{name}" for name in allowed} <= used, folder
    assert set(FOLDERS) == set(ROOMS)


@pytest.mark.parametrize("folder", sorted(COMMAND_FOLDERS & set(ROOMS)))
def test_what_stands_in_a_commands_folder_is_that_commands(folder):
    used_by = {name for name in MODULES if ARROWS_OF_MODULES[name] & set(ROOMS[folder])}
    assert {name for name in used_by if not inside(name, folder)} == ALSO_USED_BY.get(folder, set())


@pytest.mark.parametrize("folder", sorted(ROOMS))
def test_a_folder_is_worth_its_door(folder):
    """Neither a crowd nor a single room, but for a command that has one room beside it."""
    least = 1 if folder in COMMAND_FOLDERS else 2
    assert least <= len(ROOMS[folder]) <= MOST_ROOMS


def test_tests_mirror_the_tree():
    """tests/PACKAGE/FOLDER/test_MODULE.py tests PACKAGE/FOLDER/MODULE.py, or a subject of that folder."""
    for path in sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").glob("*/**/test_*.py")):
        place = ROOT / Path(path).relative_to("tests").parent
        name = Path(path).stem.removeprefix("test_")
        there = {module.stem.strip("_") for module in place.glob("*.py")}
        folder = Path(path).parent.relative_to("tests").as_posix()
        assert name in there or name in SUBJECTS.get(folder, ()), f"no module {place}/{name}.py"


def test_the_pipeline_knows_the_data_and_not_its_making():
    for module in [name for name in MODULES if inside(name, "data_pipeline")]:
        used = {name for name in IMPORTS[module] if inside(name, "tfrecords")}
        assert used & set(MODULES) <= KNOWN_TO_PIPELINE, module


def test_no_tensorflow():
    for module in [name for name in MODULES if name.split(".")[0] in ("tfrecords", "launch")]:
        assert not roots(IMPORTS[module]) & {"tensorflow", "keras", "tensorboard"}, module


@pytest.mark.slow
def test_no_tensorflow_really(tmp_path, run_python):
    """Nor by way of another library; a command's flags may clash with another's, so each has a process."""
    offline = sorted(name for name in MODULES if name.split(".")[0] in ("tfrecords", "launch"))
    commands = [[name] for name in offline if name in COMMANDS]
    for names in ([name for name in offline if name not in COMMANDS], *commands):
        script = (
            f"import importlib, sys\n"
            f"for name in {names}: importlib.import_module(name)\n"
            f"print(sorted({{'tensorflow', 'keras', 'jax', 'torch'}} & set(sys.modules)))"
        )
        done = run_python("-c", script, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (0, "[]\n"), (names, done.stderr)


def test_no_module_imports_a_command():
    for module in FILES:
        assert not IMPORTS[module] & COMMANDS, module


def test_only_commands_touch_flags():
    for module, file in MODULES.items():
        if module in COMMANDS | MAY_TOUCH_FLAGS or inside(module, FLAGS_OF_TRAINING):
            continue
        flags = {"absl.flags", "absl.app", FLAGS_OF_TRAINING}
        assert not [name for name in IMPORTS[module] for flag in flags if inside(name, flag)], module
        assert "FLAGS" not in {
            node.attr if isinstance(node, ast.Attribute) else node.id
            for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, ast.Attribute | ast.Name)
        }, module


@pytest.mark.parametrize("module", sorted(COMMANDS & set(MODULES) | set(ROOMS[FLAGS_OF_TRAINING])))
def test_flags_that_are_paths_are_defined_as_such(module):
    """So that `~` is a home folder in all of them: what a path's name or its help sounds like."""
    calls = [
        [ast.unparse(part).strip("'" + '"') for part in (node.func, node.args[0], node.args[2])]
        for node in ast.walk(ast.parse(MODULES[module].read_text()))
        if isinstance(node, ast.Call) and "DEFINE_string" in ast.unparse(node.func) and len(node.args) > 2
    ]
    sounds = r"^(Local |Also write |Also writes )?(folder|file|csv|table|where|image folder)\b"
    names = r"(^|_)(dir|file|folder|out|data|path|csv|png|html|json|images|listing|hosts|work)$"
    assert [
        name for _, name, text in calls if re.search(names, name) or re.search(sounds, text, re.IGNORECASE)
    ] == []


@pytest.mark.parametrize("module", sorted(COMMANDS & set(MODULES)))
def test_a_command_opens_with_how_it_is_called(module):
    docstring = ast.get_docstring(ast.parse(MODULES[module].read_text()))
    assert re.search(rf"^ *python -m {re.escape(command_of(module))} --", docstring, re.MULTILINE)


@pytest.mark.parametrize(
    ("pattern", "homes"),
    [
        (r"\bfsync\(", {"tfrecords.files.atomic"}),
        (r"\bflock\(", {"tfrecords.files.locks"}),
        (r"environ.*XDG_CACHE_HOME", {"tfrecords.files.cache"}),
        (r"\"://\" in ", {"tfrecords.files.urls"}),
        (r"\burl_to_fs\(", {"tfrecords.files.urls"}),
        (r"<< 3 \|", {"tfrecords.example"}),  # a protocol buffer's tag
    ],
)
def test_one_home(pattern, homes):
    """How to sync, lock, find the cache or tell a URL stands in one module; `launch` has its own."""
    found = {name for name, path in MODULES.items() if re.search(pattern, path.read_text())}
    assert {name for name in found if not inside(name, "launch")} == homes


def test_no_grab_bags():
    names = [
        path.relative_to(ROOT)
        for folder in (*PACKAGES, "benchmarks", "tests")
        for path in (ROOT / folder).rglob("*")
        if re.search(r"(^|_)(utils?|helpers?)(_|$)", path.stem.lower())
    ]
    assert names == []


def test_no_module_is_too_long():
    for module, file in FILES.items():
        assert len(file.read_text().splitlines()) <= LONGEST, module


def test_no_path_of_a_machine():
    pattern = r"(?<![\w.])/(root|home|tmp|work|Users|mnt)(/|\b)"
    for module, file in MODULES.items():
        assert re.search(pattern, file.read_text()) is None, module


def test_no_thread_of_tensorflow_calls_python():
    """An iterator that is dropped meanwhile would wait for ever: see `data_pipeline.stream.generated`."""
    for module in [name for name in MODULES if inside(name, "data_pipeline")]:
        source = ast.parse(MODULES[module].read_text())
        used = {node.attr for node in ast.walk(source) if isinstance(node, ast.Attribute)}
        assert not {"py_function", "py_func", "numpy_function", "from_generator"} & used, module


def test_the_installed_packages_are_listed():
    """An explicit list, so that tests and benchmarks stay out of the wheel, and all packages are in it."""
    parser = configparser.ConfigParser()
    assert parser.read(ROOT / "setup.cfg")
    listed = parser["options"]["packages"].split()
    there = [
        ".".join(path.parent.relative_to(ROOT).parts)
        for name in PACKAGES
        for path in (ROOT / name).rglob("__init__.py")
    ]
    assert sorted(listed) == sorted(there)
    assert {name.split(".")[0] for name in listed} >= {"tfrecords", "data_pipeline", "trainer"}
    for name in PACKAGES:
        # A folder that is no package is not installed either.
        assert {path.parent for path in (ROOT / name).rglob("*.py")} == {
            path.parent for path in (ROOT / name).rglob("__init__.py")
        }
