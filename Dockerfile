# The image in which all pods of a training run; BUILD.md, "The image", says how it is built and used.
#
#   docker build --tag shardlight .                                for CPUs
#   docker build --tag shardlight:gpu --build-arg EXTRA=gpu .      with NVIDIA's libraries
FROM python:3.11.14-slim-bookworm

# Extras of setup.cfg, with commas between them: gpu,dicom.
ARG EXTRA=

# A number, not a name: Kubernetes lets no image run as non-root whose user it cannot tell from root.
RUN groupadd --gid 1000 shardlight && useradd --uid 1000 --gid 1000 --create-home shardlight

WORKDIR /src

# First the dependencies, with every package of ours still empty: a change of the code installs, pushes and
# pulls none of these gigabytes again.
COPY pyproject.toml setup.cfg constraints.txt README.md LICENSE ./
RUN python -c 'import configparser, os; c = configparser.ConfigParser(); c.read("setup.cfg"); [os.makedirs(name.replace(".", "/"), exist_ok=True) for name in c["options"]["packages"].split()]' \
    && python -m pip install --no-cache-dir --root-user-action=ignore --constraint constraints.txt ".${EXTRA:+[$EXTRA]}"

COPY tfrecords tfrecords
COPY data_pipeline data_pipeline
COPY trainer trainer
COPY launch launch
RUN python -m pip install --no-cache-dir --root-user-action=ignore --no-deps --force-reinstall .

# Prints come at once; of a GPU machine's driver what computes, and nvidia-smi.
ENV PYTHONUNBUFFERED=1 NVIDIA_DRIVER_CAPABILITIES=compute,utility

USER 1000:1000
WORKDIR /home/shardlight

# No shell between: a SIGTERM reaches Python. Another command takes its place:
#   docker run --init shardlight python -m trainer.main --data=DATA
CMD ["python", "-m", "trainer.main", "--help"]
