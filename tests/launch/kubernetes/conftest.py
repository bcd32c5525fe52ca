"""What Kubernetes makes of a manifest: read as YAML, its commands and its environment expanded."""

import re
from types import SimpleNamespace

import pytest
import yaml


@pytest.fixture(scope="session")
def read():
    """Reads a manifest as its two documents, Service and Job."""

    def documents(text):
        service, job = yaml.safe_load_all(text)
        return service, job

    return documents


@pytest.fixture(scope="session")
def container_of(read):
    """Reads the one container of a manifest: the words of its command and its environment, expanded."""

    def container(text):
        (found,) = read(text)[1]["spec"]["template"]["spec"]["containers"]
        environment = {}
        for each in found["env"]:
            environment[each["name"]] = expand(each["value"], environment)
        return SimpleNamespace(
            command=[expand(word, environment) for word in found["command"]], environment=environment
        )

    return container


def expand(text, variables):
    """Does what `Expand` of k8s.io/kubernetes/third_party/forked/golang/expansion does."""
    return re.sub(
        r"\$(\$|\(([^)]*)\))",
        lambda match: "$" if match[1] == "$" else variables.get(match[2], match[0]),
        text,
    )
