/** Images are read only from folders that the server's owner has allowed. */
import { realpath, stat } from 'node:fs/promises';
import path from 'node:path';
import { DomainError } from '../errors.ts';

/**
 * The real path of a folder of images: absolute, without symbolic links, inside one of the real roots.
 * @param inputPath as the client gave it; must be absolute.
 * @param roots absolute folders; one that does not exist allows nothing.
 * @param field the input field that errors name, e.g. `input.path`.
 * @throws DomainError IMPORT_PATH_NOT_ALLOWED (relative, outside the roots, or led out of them by a link; told before
 * whether it exists), IMPORT_PATH_NOT_FOUND, IMPORT_PATH_NOT_FOLDER.
 */
export async function resolveImportPath(inputPath: string, roots: readonly string[], field: string): Promise<string> {
  const folder = await resolveWithin(inputPath, roots, field);
  if (!(await stat(folder)).isDirectory()) {
    throw new DomainError({
      code: 'IMPORT_PATH_NOT_FOLDER',
      message: 'The path is not a folder.',
      field,
      hint: 'Name the folder that holds the images.',
    });
  }
  return folder;
}

/**
 * The real path of a labels CSV, under the same rule as `resolveImportPath`.
 * @throws DomainError IMPORT_PATH_NOT_ALLOWED, IMPORT_PATH_NOT_FOUND (also where a folder or a device stands in its
 * place).
 */
export async function resolveImportFile(inputPath: string, roots: readonly string[], field: string): Promise<string> {
  const file = await resolveWithin(inputPath, roots, field);
  if (!(await stat(file)).isFile())
    throw new DomainError({
      code: 'IMPORT_PATH_NOT_FOUND',
      message: 'The path is not a file.',
      field,
      hint: 'Name a file.',
    });
  return file;
}

async function resolveWithin(inputPath: string, roots: readonly string[], field: string): Promise<string> {
  const hint =
    'Put it below the folder imports of the data directory of the server, or below one that PARAFFIN_IMPORT_ROOTS names there, and give its absolute path.';
  const notAllowed = (message: string): DomainError =>
    new DomainError({ code: 'IMPORT_PATH_NOT_ALLOWED', message, field, hint });
  if (!path.isAbsolute(inputPath)) throw notAllowed('The path is not absolute.');
  const found = await realPathOf(inputPath);
  const realRoots = (await Promise.all(roots.map(realPathOf))).filter((root) => root !== undefined);
  if (found !== undefined) {
    if (realRoots.some((root) => isWithin(root, found))) return found;
    throw notAllowed('The path is outside the import roots.');
  }
  // What lies outside the roots must look the same whether it exists or not.
  if (![...roots, ...realRoots].some((root) => isWithin(path.resolve(root), path.resolve(inputPath))))
    throw notAllowed('The path is outside the import roots.');
  throw new DomainError({
    code: 'IMPORT_PATH_NOT_FOUND',
    message: 'The path does not exist.',
    field,
    hint: 'Check the spelling; the path is read on the server.',
  });
}

async function realPathOf(inputPath: string): Promise<string | undefined> {
  // A path may hold what no file name can (a zero byte, too many letters): then nothing is there.
  return realpath(inputPath).catch(() => undefined);
}

/** True for the root itself and everything below it. Both are absolute and normal. */
function isWithin(root: string, candidate: string): boolean {
  const relative = path.relative(root, candidate);
  return relative === '' || (relative !== '..' && !relative.startsWith(`..${path.sep}`) && !path.isAbsolute(relative));
}
