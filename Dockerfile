# The course in a container: JupyterLab, or the memory analyzer as a page.
#
#   docker build -t labs .                               for a CPU
#   docker build -t labs --build-arg TORCH=cuda .        with CUDA; run with --gpus all
#   docker run --rm --init -p 127.0.0.1:8888:8888 -v labs-journal:/home/learner/journal labs lab
#   docker run --rm --init -p 127.0.0.1:8888:8888 -v labs-journal:/home/learner/journal labs app
#
# Inside, the server listens on all addresses, because Docker forwards to it from outside. So publish the port on
# 127.0.0.1, as above: without that prefix everybody on your network can reach it. It prints its address, with a
# token made at each start.

FROM python:3.11-slim

# Labs 02 and 05 build C++ kernels.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home --uid 1000 learner
USER learner
WORKDIR /home/learner/course
ENV PATH=/home/learner/venv/bin:$PATH \
    PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1 \
    LABS_JOURNAL=/home/learner/journal/journal.jsonl
RUN python -m venv /home/learner/venv && mkdir /home/learner/journal

# "cpu": PyTorch's builds for a CPU, a tenth of the size. "cuda": those of PyPI, whose CUDA packages are pinned too.
ARG TORCH=cpu
COPY --chown=learner constraints.txt ./
RUN case "$TORCH" in \
        cpu) pip install --no-deps -c constraints.txt --index-url https://download.pytorch.org/whl/cpu torch torchvision ;; \
        cuda) pip install -c constraints.txt torch torchvision ;; \
        *) echo "TORCH=$TORCH is unknown. Give cpu or cuda." >&2; exit 1 ;; \
    esac

COPY --chown=learner pyproject.toml README.md LICENSE LICENSE-PROSE.md Makefile ./
COPY --chown=learner labs_lib labs_lib
COPY --chown=learner tools tools
COPY --chown=learner data data
COPY --chown=learner notebooks notebooks
RUN pip install -c constraints.txt --editable ".[lab]"

EXPOSE 8888
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s CMD ["python", "-m", "tools.container", "health"]
ENTRYPOINT ["python", "-m", "tools.container"]
CMD ["lab"]
