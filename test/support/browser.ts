/** The project's Chromium for tests: it makes no request beyond this machine and leaves no files behind. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { chromium, type BrowserContext } from 'playwright-core';
import lock from '../../package-lock.json' with { type: 'json' };

const ROOT = path.resolve(import.meta.dirname, '../..');
const CACHE = path.join(ROOT, 'node_modules', '.cache');
const PACKAGE = '@sparticuz/chromium';
/** It starts slowly on a busy machine. */
const START_TIMEOUT_MS = 120_000;
/** A name under which a browser takes this machine for another one: plain http there is not what it trusts. */
export const OTHER_MACHINE = 'registry.test';
const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  `--host-resolver-rules=MAP ${OTHER_MACHINE} 127.0.0.1`,
];

export interface ChromiumProgram {
  readonly executablePath: string;
  readonly env: Readonly<Record<string, string>>;
}

export interface TestBrowser {
  readonly context: BrowserContext;
  close(): Promise<void>;
}

/**
 * Chromium's headless shell from npm, with the libraries and the font that a bare machine lacks; unpacked (270 MB) the
 * first time, in about two seconds.
 */
export async function unpackChromium(): Promise<ChromiumProgram> {
  const folder = path.join(CACHE, `chromium-${lock.packages[`node_modules/${PACKAGE}`].version}`);
  if (!existsSync(folder)) {
    await mkdir(CACHE, { recursive: true });
    const unpacked = await mkdtemp(`${folder}-`);
    // The package unpacks into the folder for temporary files, and unpacks its libraries only if it detects AWS.
    const env = { ...process.env, TMPDIR: unpacked, AWS_LAMBDA_JS_RUNTIME: 'nodejs24.x' };
    const script = `await (await import('${PACKAGE}')).default.executablePath()`;
    await promisify(execFile)(process.execPath, ['--input-type=module', '--eval', script], { cwd: ROOT, env });
    await writeFile(path.join(unpacked, 'fonts', 'fonts.conf'), fontsConf(path.join(folder, 'fonts')));
    try {
      await rename(unpacked, folder);
    } catch (error) {
      // Another test file has unpacked it at the same time.
      await rm(unpacked, { recursive: true });
      if (!existsSync(folder)) throw error;
    }
  }
  return {
    executablePath: path.join(folder, 'chromium'),
    env: {
      LD_LIBRARY_PATH: path.join(folder, 'al2023', 'lib'),
      FONTCONFIG_FILE: path.join(folder, 'fonts', 'fonts.conf'),
    },
  };
}

/**
 * The package's own font configuration names folders of AWS; Chromium aborts at the first form field if it finds no
 * font.
 */
function fontsConf(folder: string): string {
  return `<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir>${folder}/fonts</dir><cachedir>${folder}/cache</cachedir></fontconfig>
`;
}

export async function openBrowser(): Promise<TestBrowser> {
  const { executablePath, env } = await unpackChromium();
  const profile = await mkdtemp(path.join(tmpdir(), 'paraffin-browser-'));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath,
    env: { ...process.env, ...env },
    args: FLAGS,
    headless: true,
    timeout: START_TIMEOUT_MS,
    viewport: { width: 1280, height: 900 },
    // Without LANG it would report its language as "en-US@posix", which Intl refuses.
    locale: 'en-US',
  });
  return {
    context,
    close: async () => {
      await context.close();
      await rm(profile, { recursive: true, force: true });
    },
  };
}
