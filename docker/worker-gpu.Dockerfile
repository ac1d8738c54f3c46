# A worker on NVIDIA GPUs: trainings, evaluations, exports. The machine brings the driver (525.60 or newer) and NVIDIA's
# container toolkit; CUDA 12.5 and cuDNN 9.3 come with the engine.

# Debian 12 with Node 24, npm, and the user "node" (uid 1000). "npm run images" can make one where no registry of
# images is reachable.
ARG BASE=node:24-bookworm-slim
FROM ${BASE}
RUN apt-get update && apt-get install -y --no-install-recommends python3-pip g++ libjpeg62-turbo-dev libpng-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=dev && rm -rf /root/.npm
COPY . .
ENV PARAFFIN_ENGINE_CACHE_DIR=/engine
# The build is given explicitly, because no NVIDIA driver is available while an image is built.
RUN node scripts/generate.mjs && node scripts/run.mjs src/cli/main.ts engine --build cuda && mkdir /data && chown node:node /data
USER node
# The toolkit gives the container the devices, CUDA's driver library, and nvidia-smi, with which the worker lists its slots.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
# All that it writes is below /data, so that the rest may be read-only.
ENV PARAFFIN_DATA_DIR=/data TMPDIR=/data
CMD ["node", "scripts/run.mjs", "workers/main.ts"]
