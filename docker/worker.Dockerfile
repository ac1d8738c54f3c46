# A worker on CPU: imports, trainings, evaluations.
FROM node:24-bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends python3-pip g++ libjpeg62-turbo-dev libpng-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=dev
COPY . .
ENV PARAFFIN_ENGINE_CACHE_DIR=/engine
RUN node scripts/generate.mjs && node scripts/run.mjs src/cli/main.ts engine && mkdir /data && chown node:node /data
USER node
ENV PARAFFIN_DATA_DIR=/data
CMD ["node", "scripts/run.mjs", "workers/main.ts"]
