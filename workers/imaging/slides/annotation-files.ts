/** Which file holds the annotations of a slide: by its name, beside it or in a folder of annotations. */
import type { OpenFolder } from '../../../src/platform/open-folder.ts';

const ENDINGS = ['geojson', 'json', 'xml'] as const;

export interface AnnotationFiles {
  readonly folder: OpenFolder;
  /** Paths within the folder. None: the slide has no annotations; more than one is a mistake of the user. */
  of(slidePath: string): Promise<string[]>;
}

/** S1.geojson or S1.svs.geojson for S1.svs. */
export function annotationsBeside(folder: OpenFolder): AnnotationFiles {
  return { folder, of: (slidePath) => filesNamed(folder, [slidePath]) };
}

/**
 * In a folder that has the subfolders of the slides, or none: a slide whose name is the only one of its kind is found
 * by its name alone. Of two slides with one name it is not known whose the file is, so that both need their subfolders.
 * @param slidePaths of all slides of the import.
 */
export function annotationsIn(folder: OpenFolder, slidePaths: readonly string[]): AnnotationFiles {
  const stems = Map.groupBy(slidePaths, (slidePath) => stemOf(nameOf(slidePath)));
  return {
    folder,
    of: (slidePath) => {
      const name = nameOf(slidePath);
      const isAlone = stems.get(stemOf(name))?.length === 1;
      return filesNamed(folder, isAlone && name !== slidePath ? [slidePath, name] : [slidePath]);
    },
  };
}

async function filesNamed(folder: OpenFolder, slidePaths: readonly string[]): Promise<string[]> {
  const candidates = slidePaths
    .flatMap((slidePath) => [stemOf(slidePath), slidePath])
    .flatMap((name) => ENDINGS.map((ending) => `${name}.${ending}`));
  const found = await Promise.all(
    candidates.map(async (file) => ((await folder.factsOf(file)) === null ? [] : [file])),
  );
  return found.flat();
}

function nameOf(slidePath: string): string {
  return slidePath.slice(slidePath.lastIndexOf('/') + 1);
}

function stemOf(slidePath: string): string {
  return slidePath.replace(/\.[^./]+$/, '');
}
