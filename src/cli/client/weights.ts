/** `paraffin download` and `paraffin verify`: weights with a proven digest. */
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { namesOf, oneOf } from '../command.ts';
import { CommandFailure, EXIT } from '../exit-codes.ts';
import { formatByteSize, createStatusLine, progressBar } from '../terminal.ts';
import { fetchFile, remoteFileAt, sha256Of } from './bytes.ts';
import { clientCommand, connect, type ClientOptions } from './connection.ts';
import { graphql, type VariablesOf } from './graphql.ts';
import { paint, printNote, show } from './output.ts';
import { findCheckpoint, type FoundCheckpoint } from './references.ts';

const DOWNLOAD_URL = graphql(`
  query DownloadUrl($id: ID!, $format: WeightsFormat!) {
    checkpoint(id: $id) {
      downloadUrl(format: $format)
    }
  }
`);
type WeightsFormat = VariablesOf<typeof DOWNLOAD_URL>['format'];
const FORMATS: Readonly<Record<WeightsFormat, true>> = { SAFETENSORS: true, PYTORCH: true, ONNX: true, TFJS: true };

const CHECKPOINT_FACTS = graphql(`
  query WhatIsIt($sha256: String!) {
    checkpoints(filter: { sha256: $sha256 }, first: 10) {
      nodes {
        id
        version
        sha256
        model {
          slug
        }
        exports {
          format
          sha256
        }
      }
    }
  }
`);

export const downloadCommand = clientCommand('download', {
  summary: 'download the weights of a checkpoint and verify them',
  details:
    'Downloads the weights of a checkpoint, continues an interrupted download, and gives the file its name only after its sha256 was verified. Exit code 3 if the sha256 is wrong.',
  examples: [
    'download colon',
    'download colon@champion --format pytorch --out encoder.pt',
    'download 0198a7c2-… --format onnx --out models/ --dry-run',
  ],
})
  .argument('<checkpoint>', 'id, model@alias, model@version, or model for its latest version')
  .option('--format <name>', namesOf(FORMATS).join(', '), oneOf(FORMATS), 'SAFETENSORS' as const)
  .option('-o, --out <path>', 'file or folder (default: this folder)')
  .option('--dry-run', 'print the number of bytes without downloading them')
  .option('--force', 'replace an existing file with other content')
  .action(async (reference, { format, out, dryRun, force, ...options }) => {
    const registry = await connect(options);
    const checkpoint = await findCheckpoint(registry, reference);
    await requireFolderOf(out);
    const known = knownFile(checkpoint, format);
    if (dryRun === true && known === undefined) {
      show(options, {
        data: { checkpointId: checkpoint.id, format, byteSize: null, sha256: null },
        names: [],
        text: `${nameOf(checkpoint)} as ${format.toLowerCase()} is made at the first request; its size is not known before.`,
      });
      return;
    }
    const { checkpoint: place } = await registry.ask(DOWNLOAD_URL, { id: checkpoint.id, format });
    if (place?.downloadUrl == null)
      throw new CommandFailure({
        message: `${nameOf(checkpoint)} cannot be downloaded as ${format.toLowerCase()}.`,
        hint:
          checkpoint.formats.length === 0
            ? `Import its weights first: paraffin models import --published ${checkpoint.publishedSlug ?? 'NAME'}`
            : `Available formats: ${checkpoint.formats.join(', ').toLowerCase()}`,
      });
    const remote = await remoteFileAt(registry, options, place.downloadUrl);
    if (known !== undefined && known.sha256 !== remote.sha256)
      throw new CommandFailure({
        exitCode: EXIT.DAMAGE_FOUND,
        message: `The file at the server has the sha256 ${remote.sha256}, not ${known.sha256} as registered.`,
      });
    const target = await targetOf(
      out,
      remote.fileName ?? `${checkpoint.model.slug}-v${checkpoint.version}.${format.toLowerCase()}`,
    );
    const data = {
      checkpointId: checkpoint.id,
      format,
      file: target,
      byteSize: remote.byteSize,
      sha256: remote.sha256,
    };
    if (dryRun === true) {
      show(options, {
        data,
        names: [String(remote.byteSize)],
        text: `${target}: ${remote.byteSize} bytes (${formatByteSize(remote.byteSize)}), sha256 ${remote.sha256}`,
      });
      return;
    }
    const isThere = await stat(target).then(
      () => true,
      () => false,
    );
    if (isThere && (await sha256Of(target)) === remote.sha256)
      printNote(options, 'The file exists already and is intact.');
    else if (isThere && force !== true)
      throw new CommandFailure({
        message: `${target} exists already with other content.`,
        hint: 'Give another --out, or use --force to replace it.',
      });
    else await fetchFile(registry, options, place.downloadUrl, remote, target);
    show(options, {
      data,
      names: [target],
      text: `${paint('bold', target)}  ${formatByteSize(remote.byteSize)}, sha256 ${remote.sha256}, ${paint('green', 'verified')}`,
    });
  });

function knownFile(
  { sha256, byteSize, exports }: FoundCheckpoint,
  format: WeightsFormat,
): { readonly sha256: string } | undefined {
  const known =
    format === 'SAFETENSORS'
      ? { sha256, byteSize }
      : exports.find((made) => made.format === format && made.status === 'AVAILABLE');
  return known?.sha256 == null ? undefined : { sha256: known.sha256 };
}

function nameOf({ model, version }: FoundCheckpoint): string {
  return `${model.slug}@${version}`;
}

/** Checked before any file is made or downloaded. */
async function requireFolderOf(out: string | undefined): Promise<void> {
  if (out === undefined) return;
  const folder = out.endsWith(path.sep) ? out : path.dirname(out);
  const isThere = await stat(folder).then(
    (found) => found.isDirectory(),
    () => false,
  );
  if (!isThere)
    throw new CommandFailure({
      message: `The folder ${folder} does not exist.`,
      hint: `Create it first: mkdir -p '${folder}'`,
    });
}

async function targetOf(out: string | undefined, fileName: string): Promise<string> {
  if (out === undefined) return fileName;
  const isFolder =
    out.endsWith(path.sep) ||
    (await stat(out).then(
      (found) => found.isDirectory(),
      () => false,
    ));
  return isFolder ? path.join(out, fileName) : out;
}

export const verifyCommand = clientCommand('verify', {
  summary: 'identify the checkpoint of a file and verify the file',
  details:
    'Looks up by sha256 which checkpoint of the registry a file belongs to. Exit code 3 if there is none, or if it is not the one of --checkpoint. With --sha256 no server is used.',
  examples: [
    'verify encoder.safetensors',
    'verify encoder.pt --checkpoint colon@champion',
    'verify encoder.onnx --sha256 9f86d0…',
  ],
})
  .argument('<file>', 'on this machine')
  .option('--checkpoint <reference>', 'the expected checkpoint: an id, model@alias, model@version')
  .option('--sha256 <digest>', 'the expected sha256; no server is used')
  .action(async (file, { checkpoint: reference, sha256: wanted, ...options }) => {
    const sha256 = await hashed(file, options);
    if (wanted !== undefined) {
      if (wanted.toLowerCase() !== sha256)
        throw new CommandFailure({
          exitCode: EXIT.DAMAGE_FOUND,
          message: `${file} has the sha256 ${sha256}, not ${wanted}.`,
        });
      show(options, { data: { file, sha256 }, names: [sha256], text: `${file} is intact: sha256 ${sha256}` });
      return;
    }
    const registry = await connect(options);
    const { checkpoints } = await registry.ask(CHECKPOINT_FACTS, { sha256 });
    const expected = reference === undefined ? undefined : await findCheckpoint(registry, reference);
    const found = checkpoints.nodes.find((each) => expected === undefined || each.id === expected.id);
    if (found === undefined) {
      throw new CommandFailure({
        exitCode: EXIT.DAMAGE_FOUND,
        message:
          expected === undefined
            ? `No checkpoint of ${registry.url} has these bytes (sha256 ${sha256}).`
            : `${file} (sha256 ${sha256}) is not ${nameOf(expected)} in any of its formats.`,
        hint: 'The file is damaged, changed, or from another source. Download it again.',
      });
    }
    const format =
      found.sha256 === sha256
        ? 'SAFETENSORS'
        : (found.exports.find((made) => made.sha256 === sha256)?.format ?? 'SAFETENSORS');
    show(options, {
      data: { file, sha256, checkpointId: found.id, model: found.model.slug, version: found.version, format },
      names: [found.id],
      text: `${file} is ${paint('bold', `${found.model.slug}@${found.version}`)} as ${format.toLowerCase()}, whole: checkpoint ${found.id}, sha256 ${sha256}`,
    });
  });

async function hashed(file: string, options: ClientOptions): Promise<string> {
  const found = await stat(file).catch(() => undefined);
  if (found === undefined || !found.isFile())
    throw new CommandFailure({ exitCode: EXIT.INVALID_ARGUMENTS, message: `The file ${file} does not exist.` });
  const line = createStatusLine(process.stderr);
  let read = 0;
  const sha256 = await sha256Of(file, (count) => {
    read += count;
    if (options.quiet !== true && process.stderr.isTTY)
      line.show(`${progressBar(read / found.size)} ${formatByteSize(read)}`);
  });
  line.end();
  return sha256;
}
