/**
 * TF.js in headless Chromium: a small server serves the library, the model's files and a page that loads them by URL,
 * computes embeddings, and sends them back. No browser driver is needed.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { buffer as bodyOf } from 'node:stream/consumers';
import { createServer } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { unpackChromium } from '../test/support/browser.ts';
import { COMPAT_CONTRACT, IMAGE_COUNT, SMALL_SIZE_PX } from './images.ts';

/** Long enough for a machine that is busy with other work. */
const TIMEOUT_MS = 400_000;

/**
 * Writes `<encoder>/chromium-<backend>-64.f32` for the backends cpu and webgl. @throws Error when the page
 * reports a fault.
 */
export async function embedInBrowser(workDir: string, encoders: readonly string[]): Promise<string> {
  const { executablePath, env } = await unpackChromium();
  const done = Promise.withResolvers<string>();
  const server = createServer((request, response) => {
    answer(workDir, encoders, request, response, done.resolve).catch((error: unknown) => {
      response.writeHead(500).end();
      done.reject(error);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('The page could not be served.');
  const profileDir = await mkdtemp(path.join(os.tmpdir(), 'paraffin-chromium-'));
  const flags = [
    '--headless',
    '--no-sandbox',
    '--disable-dev-shm-usage',
    '--no-first-run',
    '--use-angle=swiftshader',
    '--enable-unsafe-swiftshader',
    `--user-data-dir=${profileDir}`,
  ];
  const browser = spawn(executablePath, [...flags, `http://127.0.0.1:${address.port}/`], {
    env: { ...process.env, ...env },
    stdio: 'ignore',
  });
  browser.once('error', done.reject);
  const timer = setTimeout(
    () => done.reject(new Error(`Chromium did not answer within ${TIMEOUT_MS / 1000} s.`)),
    TIMEOUT_MS,
  );
  try {
    return await done.promise;
  } finally {
    clearTimeout(timer);
    if (browser.exitCode === null && browser.pid !== undefined) {
      const ended = once(browser, 'exit');
      browser.kill('SIGKILL');
      await ended;
    }
    server.closeAllConnections();
    server.close();
    await rm(profileDir, { recursive: true, force: true, maxRetries: 5 });
  }
}

async function answer(
  workDir: string,
  encoders: readonly string[],
  request: IncomingMessage,
  response: ServerResponse,
  finish: (facts: string) => void,
): Promise<void> {
  const pathname = new URL(request.url ?? '/', 'http://localhost').pathname;
  if (request.method === 'POST') {
    const body = await bodyOf(request);
    response.end();
    if (pathname === '/done') return finish(body.toString());
    if (pathname === '/fault') throw new Error(`In Chromium: ${body.toString().slice(0, 500)}`);
    const [, encoder, backend] = /^\/embeddings\/(\w+)\/(\w+)$/.exec(pathname) ?? [];
    if (encoder === undefined || backend === undefined || !encoders.includes(encoder))
      throw new Error(`Unexpected POST ${pathname}`);
    return writeFile(path.join(workDir, encoder, `chromium-${backend}-${SMALL_SIZE_PX}.f32`), body);
  }
  if (pathname === '/') return void response.setHeader('content-type', 'text/html').end(page(encoders));
  if (pathname === '/tf.js')
    return void response
      .setHeader('content-type', 'text/javascript')
      .end(
        await readFile(
          path.join(import.meta.dirname, '..', 'node_modules', '@tensorflow', 'tfjs', 'dist', 'tf.min.js'),
        ),
      );
  if (pathname === '/images')
    return void response.end(await readFile(path.join(workDir, `images-${SMALL_SIZE_PX}.u8`)));
  const [, encoder, fileName] = /^\/model\/(\w+)\/([\w.-]+)$/.exec(pathname) ?? [];
  if (encoder === undefined || fileName === undefined || !encoders.includes(encoder))
    return void response.writeHead(404).end();
  response.end(await readFile(path.join(workDir, encoder, 'tfjs', fileName)));
}

function page(encoders: readonly string[]): string {
  const { channelMean, channelStd } = COMPAT_CONTRACT;
  return `<!doctype html><script src="/tf.js"></script><script type="module">
try {
  const pixels = new Uint8Array(await (await fetch('/images')).arrayBuffer());
  for (const backend of ['cpu', 'webgl']) {
    if (!(await tf.setBackend(backend))) throw new Error(backend + ' is not available');
    const scaled = tf.tensor4d(Float32Array.from(pixels), [${IMAGE_COUNT}, ${SMALL_SIZE_PX}, ${SMALL_SIZE_PX}, 3]).div(255);
    const images = scaled.sub(tf.tensor1d(${JSON.stringify(channelMean)})).div(tf.tensor1d(${JSON.stringify(channelStd)}));
    for (const encoder of ${JSON.stringify(encoders)}) {
      const model = await tf.loadGraphModel('/model/' + encoder + '/model.json');
      const embeddings = await model.predict(images).data();
      await fetch('/embeddings/' + encoder + '/' + backend, { method: 'POST', body: embeddings });
      model.dispose();
    }
  }
  await fetch('/done', { method: 'POST', body: JSON.stringify({ chromium: navigator.userAgent.match(/Chrome\\/([\\d.]+)/)[1] }) });
} catch (error) {
  await fetch('/fault', { method: 'POST', body: String(error && error.stack || error) });
}
</script>`;
}
