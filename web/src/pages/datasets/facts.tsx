/** The wording of a dataset's facts. */
import { Tag } from '../../ui/parts.tsx';
import { short } from '../../ui/format.ts';

/** How the row relates to the paper, as far as known. */
export const PROVENANCE_WORDS: Readonly<Record<string, { readonly name: string; readonly meaning: string }>> = {
  PAPER_TABLE: { name: "paper's list", meaning: "A row of the paper's list of 57 datasets." },
  PAPER_TEXT: {
    name: 'named in the paper',
    meaning: 'Named in the text of the paper; it is not known whether it is in the list.',
  },
  OTHER_SOURCE: { name: 'other source', meaning: 'Another source says that the paper used it.' },
  CANDIDATE: { name: 'candidate', meaning: 'Similar to the datasets of the paper, without evidence that it was used.' },
  LOCAL: { name: 'local', meaning: 'Created by a user of this registry.' },
};

export function Provenance({ provenance }: { readonly provenance: string }) {
  const { name, meaning } = PROVENANCE_WORDS[provenance] ?? { name: provenance.toLowerCase(), meaning: '' };
  return (
    <Tag tone={provenance === 'LOCAL' ? 'accent' : 'plain'} title={meaning}>
      {name}
    </Tag>
  );
}

interface ResolutionFacts {
  readonly magnification: number | null;
  readonly totalMagnification: number | null;
  readonly micronsPerPixel: number | null;
}

/** e.g. `40x · 0.25 um/px` */
export function resolutionText({ magnification, totalMagnification, micronsPerPixel }: ResolutionFacts): string {
  return [
    magnification === null ? '' : `${short(magnification)}x`,
    totalMagnification === null ? '' : `${short(totalMagnification)}x in all`,
    micronsPerPixel === null ? '' : `${short(micronsPerPixel)} µm/px`,
  ]
    .filter((part) => part !== '')
    .join(' · ');
}

/** A summary of several resolutions, e.g. `10x, 20x, 40x · 0.17–2.3 µm/px`. */
export function resolutionsText(resolutions: readonly ResolutionFacts[]): string {
  const magnifications = [...new Set(resolutions.flatMap((each) => each.magnification ?? []))].sort((a, b) => a - b);
  const microns = resolutions.flatMap((each) => each.micronsPerPixel ?? []).sort((a, b) => a - b);
  const [finest] = microns;
  const coarsest = microns.at(-1);
  return [
    magnifications.map((each) => `${short(each)}x`).join(', '),
    finest === undefined || coarsest === undefined
      ? ''
      : `${finest === coarsest ? short(finest) : `${short(finest)}–${short(coarsest)}`} µm/px`,
  ]
    .filter((part) => part !== '')
    .join(' · ');
}
