# The kit in a container; docs/run_elsewhere.md says how to run it.
#   docker build -t faprompt-kit .
# On a machine with an NVIDIA GPU, with the torch of the lock:
#   docker build -t faprompt-kit --build-arg BASE=nvidia/cuda:13.0.2-base-ubuntu24.04 --build-arg TORCH_BACKEND= .
ARG BASE=ubuntu:24.04
FROM ${BASE}
ARG TORCH_BACKEND=cpu

RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates git make python3 python3-venv \
 && rm -rf /var/lib/apt/lists/*

WORKDIR /kit
COPY . .
RUN make setup TORCH_BACKEND=${TORCH_BACKEND}

# Data, features and runs go to /results: mount a folder there to keep them.
ENV FAP_HOME=/results TORCH_BACKEND=${TORCH_BACKEND} PATH=/kit/.venv/bin:${PATH}
VOLUME /results
CMD ["make", "demo"]
