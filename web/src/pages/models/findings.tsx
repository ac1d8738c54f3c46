/** Findings of an evaluation: baselines that it does not beat, and overlap with the pretraining data. */
import { count, words } from '../../ui/format.ts';
import { Fact, Facts, Tag } from '../../ui/parts.tsx';
import type { EvaluationDetail } from '../leaderboard/queries.ts';

/** Shows nothing if the result beats all baselines. */
export function UnbeatenBaselines({ kinds }: { readonly kinds: EvaluationDetail['unbeatenBaselines'] }) {
  if (kinds.length === 0) return null;
  return (
    <span>
      <Tag tone="warn" title="The 95 % interval of the difference contains 0 or is on the wrong side of it">
        does not beat {kinds.map(words).join(', ')}
      </Tag>
    </span>
  );
}

type KnownLeakage = NonNullable<EvaluationDetail['leakage']>;

/** In one line, for lists. */
export function leakageInWords(leakage: EvaluationDetail['leakage']): string {
  if (leakage === null) return 'Whether it had seen these images is not known.';
  const images =
    leakage.exactImageCount === null
      ? 'images not compared'
      : `${count(leakage.exactImageCount)} of ${count(leakage.testImageCount)} images`;
  return `Seen in pretraining: ${images}, ${groupsOf(leakage)}.`;
}

export function Leakage({ leakage }: { readonly leakage: EvaluationDetail['leakage'] }) {
  return (
    <section className="sheet" aria-labelledby="leakage">
      <h2 id="leakage">Leakage</h2>
      {leakage === null ? (
        <p>Not known, because the weights were imported and their training data is unknown.</p>
      ) : (
        <LeakageFacts leakage={leakage} />
      )}
    </section>
  );
}

function LeakageFacts({ leakage }: { readonly leakage: KnownLeakage }) {
  const shared = [...leakage.sharedDatasets, ...leakage.sharedCollections];
  return (
    <>
      <Facts>
        <Fact name="Identical images">{of(leakage.exactImageCount, leakage.testImageCount)}</Fact>
        <Fact name="Near-duplicates">{of(leakage.nearDuplicateImageCount, leakage.testImageCount)}</Fact>
        <Fact name="Groups">{groupsOf(leakage)}</Fact>
        <Fact name="Datasets and collections">{shared.length === 0 ? 'none in common' : shared.join(', ')}</Fact>
      </Facts>
      {leakage.isUpperBound && (
        <p className="soft">These are upper bounds, because a training used only a part of a version.</p>
      )}
      {!leakage.isComplete && (
        <p className="notice">There may be more overlap, because a part of the training is not known.</p>
      )}
    </>
  );
}

function groupsOf({ sharedGroupCount, testGroupCount }: KnownLeakage): string {
  return testGroupCount === 0
    ? 'groups not compared, because none is known'
    : `${count(sharedGroupCount)} of ${count(testGroupCount)} groups`;
}

function of(seen: number | null, all: number): string {
  return seen === null
    ? 'not compared: a version was sealed before images were hashed'
    : `${count(seen)} of ${count(all)}`;
}
