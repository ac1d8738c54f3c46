/** The patches of a slide in colours: by label, by what an evaluation predicted, or by likeness to one of them. */
import { getRouteApi, Link } from '@tanstack/react-router';
import { useCallback, useId, useMemo, type ReactNode } from 'react';
import { useGraphQLQuery } from '../../api/hooks.ts';
import { COLOURINGS } from '../../app/choices.ts';
import { count, formatPatches, instant, short, words } from '../../ui/format.ts';
import { Failure } from '../../ui/parts.tsx';
import { coloursOfNames, coloursOfNumbers, SCALE_GRADIENT, type Legend, type PatchColours } from './patch-colours.ts';
import {
  SLIDE_COLOUR_SOURCES,
  SLIDE_PATCHES,
  SLIDE_PREDICTIONS,
  SLIDE_SIMILARITY,
  type ColourSources,
  type SlideDetail,
  type SlidePatches,
  type SlideVersion,
} from './queries.ts';
import { SlideViewer } from './viewer.tsx';

type Colouring = (typeof COLOURINGS)[number];

const slideRoute = getRouteApi('/slides/$versionId/$position');

const COLOURING_NAMES: Readonly<Record<Colouring, string>> = {
  label: 'label',
  prediction: 'predicted label',
  score: 'score of an evaluation',
  similarity: 'similarity to a patch',
};

/** The colours and what a person chooses beside them. */
interface Coloured {
  /** Null while they are read, and where something is missing. */
  readonly colours: PatchColours | null;
  /** Controls of this colouring alone. */
  readonly controls?: ReactNode;
  /** Why there are no colours, and what to do. */
  readonly notice?: ReactNode;
}

/** The slide with its patches. Rendered with another key for another slide. */
export function ColouredSlide({ version, slide }: { readonly version: SlideVersion; readonly slide: SlideDetail }) {
  const search = slideRoute.useSearch();
  const navigate = slideRoute.useNavigate();
  const change = useCallback(
    (changes: Partial<typeof search>): void =>
      void navigate({ search: (before) => ({ ...before, ...changes }), replace: true, resetScroll: false }),
    [navigate],
  );
  const place = { versionId: version.id, position: slide.position };
  const answer = useGraphQLQuery(SLIDE_PATCHES, place);
  const node = answer.data?.node;
  const patches = node != null && 'slidePatches' in node ? node.slidePatches : null;
  const colouring = search.colour ?? 'label';
  const chosen = chosenPatch(search.patch, patches);
  const sources = useGraphQLQuery(SLIDE_COLOUR_SOURCES, { versionId: version.id });
  const common = { version, slide, patches, change, sources: sources.data };
  // Nobody asked for labels where the URL names no colouring: then the legend alone says that there are none.
  const byLabel = useLabels(common, colouring === 'label', search.colour === 'label');
  const byEvaluation = useEvaluation(
    { ...common, evaluationId: search.evaluation, label: search.label },
    colouring === 'prediction' || colouring === 'score' ? colouring : null,
  );
  const bySimilarity = useSimilarity(
    { ...common, embeddingSetId: search.embeddings, chosen },
    colouring === 'similarity',
  );
  const { colours, controls, notice } = {
    label: byLabel,
    prediction: byEvaluation,
    score: byEvaluation,
    similarity: bySimilarity,
  }[colouring];
  const onChoose = useCallback((patch: number): void => change({ patch: String(patch + 1) }), [change]);
  return (
    <section className="sheet" aria-label="The slide">
      {slide.patchCount > 0 && (
        <div className="row">
          <Choice
            label="Colour by"
            value={colouring}
            options={COLOURINGS.map((each) => ({ value: each, name: COLOURING_NAMES[each] }))}
            onChoose={(value) => change({ colour: COLOURINGS.find((each) => each === value) })}
          />
          {controls}
          <label className="row">
            <span className="soft">Patch</span>
            <input
              type="number"
              min={1}
              max={slide.patchCount}
              value={chosen === null ? '' : chosen + 1}
              placeholder="click on one"
              style={{ width: '8rem' }}
              onChange={(event) => change({ patch: event.target.value })}
            />
          </label>
        </div>
      )}
      {answer.error !== null && <Failure error={answer.error} />}
      {sources.error !== null && <Failure error={sources.error} />}
      {notice}
      <SlideViewer slide={slide} patches={patches} colours={colours} chosen={chosen} onChoose={onChoose} />
      <div aria-live="polite">
        {colours !== null && <ColourLegend legend={colours.legend} />}
        {chosen !== null && patches !== null && (
          <p className="small">
            Patch {count(chosen + 1)} of {count(patches.x.length)}, at {count(patches.x[chosen] ?? 0)},{' '}
            {count(patches.y[chosen] ?? 0)} px of level 0{colours === null ? '' : `: ${colours.describe(chosen)}`}
          </p>
        )}
      </div>
    </section>
  );
}

/** @param written the number of a patch, from 1. */
function chosenPatch(written: string | undefined, patches: SlidePatches | null): number | null {
  const patch = Number(written ?? 'NaN') - 1;
  return Number.isInteger(patch) && patch >= 0 && patch < (patches?.x.length ?? 0) ? patch : null;
}

interface Common {
  readonly version: SlideVersion;
  readonly slide: SlideDetail;
  readonly patches: SlidePatches | null;
  readonly change: (changes: {
    readonly evaluation?: string | undefined;
    readonly label?: string | undefined;
    readonly embeddings?: string | undefined;
  }) => void;
  /** Undefined while they are read. */
  readonly sources: ColourSources | undefined;
}

function useLabels({ version, slide, patches }: Common, isWanted: boolean, isAskedFor: boolean): Coloured {
  const colours = useMemo(
    () =>
      patches === null || !isWanted
        ? null
        : coloursOfNames({ names: patches.labelNames, places: patches.labels }, version.labelNames, {
            ...{ name: 'label', none: 'without a label' },
          }),
    [patches, version.labelNames, isWanted],
  );
  if (!isAskedFor || slide.patchCount === 0 || patches === null || patches.labelNames.length > 0) return { colours };
  return {
    colours,
    notice: (
      <Missing>
        The patches of this slide have no labels. Give them by the CSV of an import, or by annotations beside the
        slides:{' '}
        <Link to="/new" search={{ what: 'importDatasetVersion', datasetId: version.dataset.id }}>
          import the folder again
        </Link>
        .
      </Missing>
    ),
  };
}

function useEvaluation(
  {
    version,
    slide,
    sources,
    change,
    evaluationId,
    label,
  }: Common & { readonly evaluationId: string | undefined; readonly label: string | undefined },
  wanted: 'prediction' | 'score' | null,
): Coloured {
  // A regression predicts no label.
  const evaluations = (sources?.evaluations.nodes ?? []).filter(
    ({ predictionsUrl, protocol }) => predictionsUrl !== null && (wanted === 'score' || protocol !== 'REGRESSION'),
  );
  const evaluation = evaluations.find(({ id }) => id === evaluationId) ?? evaluations[0];
  const answer = useGraphQLQuery(
    SLIDE_PREDICTIONS,
    { id: evaluation?.id ?? '', position: slide.position, label: label ?? null },
    { enabled: wanted !== null && evaluation !== undefined && slide.patchCount > 0 },
  );
  const predictions = evaluation === undefined ? null : (answer.data?.evaluation?.slidePredictions ?? null);
  const colours = useMemo(() => {
    if (predictions === null || wanted === null) return null;
    const none = 'not tested by this evaluation';
    if (wanted === 'prediction')
      return coloursOfNames({ names: predictions.labelNames, places: predictions.predicted }, version.labelNames, {
        ...{ name: 'predicted', none },
      });
    return predictions.label === null
      ? coloursOfNumbers(predictions.scores, {}, { title: 'predicted', none })
      : coloursOfNumbers(predictions.scores, { low: 0, high: 1 }, { title: `score of ${predictions.label}`, none });
  }, [predictions, version.labelNames, wanted]);
  if (wanted === null || sources === undefined || slide.patchCount === 0) return { colours: null };
  if (evaluation === undefined)
    return {
      colours: null,
      notice:
        version.labelNames.length < 2 ? (
          <Missing>
            No evaluation of this version can be made, because its patches have{' '}
            {version.labelNames.length === 0 ? 'no labels' : 'one label alone'}.{' '}
            <Link to="/new" search={{ what: 'importDatasetVersion', datasetId: version.dataset.id }}>
              Import the folder again
            </Link>{' '}
            with a CSV of slides or with annotations.
          </Missing>
        ) : (
          <Missing>
            No encoder has been evaluated on this version yet.{' '}
            <Link to="/new" search={{ what: 'launchEvaluation', datasetVersionId: version.id }}>
              Launch an evaluation
            </Link>
            , and its predictions are shown here.
          </Missing>
        ),
    };
  const isUntested = predictions?.scores.every((value) => value === null) === true;
  return {
    colours,
    controls: (
      <>
        <Choice
          label="Evaluation"
          value={evaluation.id}
          options={evaluations.map(({ id, protocol, checkpoint, createdAt }) => ({
            value: id,
            name: `${checkpoint.model.slug} v${checkpoint.version}, ${words(protocol)}, ${instant(createdAt)}`,
          }))}
          onChoose={(value) => change({ evaluation: value, label: undefined })}
        />
        {wanted === 'score' && predictions !== null && predictions.label !== null && (
          <Choice
            label="Score of"
            value={predictions.label}
            options={predictions.labelNames.map((name) => ({ value: name, name }))}
            onChoose={(value) => change({ label: value })}
          />
        )}
      </>
    ),
    notice: (
      <>
        {answer.error !== null && <Failure error={answer.error} />}
        {isUntested && <Missing>This evaluation tested no patch of this slide: its split trains on it.</Missing>}
      </>
    ),
  };
}

function useSimilarity(
  {
    version,
    slide,
    sources,
    change,
    embeddingSetId,
    chosen,
  }: Common & { readonly embeddingSetId: string | undefined; readonly chosen: number | null },
  isWanted: boolean,
): Coloured {
  const node = sources?.node;
  const sets = node != null && 'embeddings' in node ? node.embeddings : [];
  // An encoder's rather than a baseline's, which an evaluation makes last.
  const set =
    sets.find(({ id }) => id === embeddingSetId) ?? sets.find(({ source }) => source === 'CHECKPOINT') ?? sets[0];
  const answer = useGraphQLQuery(
    SLIDE_SIMILARITY,
    { versionId: version.id, position: slide.position, patch: chosen ?? 0, embeddingSetId: set?.id ?? '' },
    { enabled: isWanted && set !== undefined && chosen !== null },
  );
  const found = answer.data?.node;
  const values = found != null && 'slideSimilarity' in found && chosen !== null ? found.slideSimilarity : null;
  const colours = useMemo(
    () =>
      values === null
        ? null
        : coloursOfNumbers(values, { high: 1 }, { title: 'cosine similarity', none: 'an embedding of length 0' }),
    [values],
  );
  if (!isWanted || sources === undefined || slide.patchCount === 0) return { colours: null };
  if (set === undefined)
    return {
      colours: null,
      notice: (
        <Missing>
          This version has no embeddings yet.{' '}
          <Link to="/new" search={{ what: 'launchEmbedding', datasetVersionId: version.id }}>
            Launch an embedding
          </Link>{' '}
          by an encoder; labels are not needed.
        </Missing>
      ),
    };
  return {
    colours,
    controls: (
      <Choice
        label="Embeddings of"
        value={set.id}
        options={sets.map(({ id, source, checkpoint }) => ({
          value: id,
          name: checkpoint === null ? words(source) : `${checkpoint.model.slug} v${checkpoint.version}`,
        }))}
        onChoose={(value) => change({ embeddings: value })}
      />
    ),
    notice: (
      <>
        {answer.error !== null && <Failure error={answer.error} />}
        {chosen === null && <Missing>Click on a patch, or type its number: the others are compared with it.</Missing>}
      </>
    ),
  };
}

function Missing({ children }: { readonly children: ReactNode }) {
  return (
    <div className="notice" role="note">
      <span>{children}</span>
    </div>
  );
}

function Choice({
  label,
  value,
  options,
  onChoose,
}: {
  readonly label: string;
  readonly value: string;
  readonly options: readonly { readonly value: string; readonly name: string }[];
  readonly onChoose: (value: string) => void;
}) {
  const id = useId();
  return (
    <span className="row">
      <label htmlFor={id} className="soft">
        {label}
      </label>
      <select id={id} value={value} style={{ width: 'auto' }} onChange={(event) => onChoose(event.target.value)}>
        {options.map((option) => (
          <option key={option.value} value={option.value}>
            {option.name}
          </option>
        ))}
      </select>
    </span>
  );
}

function ColourLegend({ legend }: { readonly legend: Legend }) {
  if (legend.kind === 'NAMES')
    return (
      <ul className="row small" aria-label="Legend">
        {legend.entries.map(({ name, colour, patchCount }) => (
          <li key={name}>
            <span className="swatch" style={{ background: colour }} /> {name}{' '}
            <span className="soft">{formatPatches(patchCount)}</span>
          </li>
        ))}
      </ul>
    );
  const { title, low, high, otherCount } = legend;
  return (
    <div className="row small" role="group" aria-label="Legend">
      <span>{title}</span>
      <span>{short(low)}</span>
      <span className="scale" style={{ background: SCALE_GRADIENT }} aria-hidden="true" />
      <span>{short(high)}</span>
      {otherCount > 0 && <span className="soft">grey: {formatPatches(otherCount)} without a number</span>}
    </div>
  );
}
