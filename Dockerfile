# The image of all pods of a training; BUILD.md, "The image", says how to build and use it.
#
#   docker build --tag shardlight .                                for CPUs
#   docker build --tag shardlight:gpu --build-arg EXTRA=gpu .      with NVIDIA's libraries
FROM python:3.11.14-slim-bookworm

# Extras of setup.cfg, with commas between them: gpu,dicom.
ARG EXTRA=

# The user is a number: with runAsNonRoot Kubernetes refuses an image whose user is a name.
RUN groupadd --gid 1000 shardlight && useradd --uid 1000 --gid 1000 --create-home shardlight

WORKDIR /src

# The dependencies come first, with our own packages still empty. So after a change of the code these gigabytes
# are not installed, pushed and pulled again.
COPY pyproject.toml setup.cfg constraints.txt README.md LICENSE ./
RUN python -c 'import configparser, os; c = configparser.ConfigParser(); c.read("setup.cfg"); [os.makedirs(name.replace(".", "/"), exist_ok=True) for name in c["options"]["packages"].split()]' \
    && python -m pip install --no-cache-dir --root-user-action=ignore --constraint constraints.txt ".${EXTRA:+[$EXTRA]}"

COPY tfrecords tfrecords
COPY data_pipeline data_pipeline
COPY trainer trainer
COPY launch launch
RUN python -m pip install --no-cache-dir --root-user-action=ignore --no-deps --force-reinstall .

# Output is not buffered. Of the NVIDIA driver the container gets the compute libraries and nvidia-smi.
ENV PYTHONUNBUFFERED=1 NVIDIA_DRIVER_CAPABILITIES=compute,utility

USER 1000:1000
WORKDIR /home/shardlight

# No shell stands between, so SIGTERM reaches Python. Another command replaces this one:
#   docker run --init shardlight python -m trainer.main --data=DATA
CMD ["python", "-m", "trainer.main", "--help"]
