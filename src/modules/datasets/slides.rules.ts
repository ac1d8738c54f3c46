/** Validation of what is asked about the slides of a version, and of what its rows hold. Pure. */
import { z } from 'zod';
import { DomainError } from '../../errors.ts';
import { slideFactsSchema } from '../../protocol/slide-facts.ts';
import { SLIDE_STATUSES } from '../../protocol/imported-slide.ts';

/** `SlideFilter`: a slide must match every given part. */
export const slideFilterSchema = z.object({
  status: z.enum(SLIDE_STATUSES).nullish(),
  label: z.string().max(500, 'must have at most 500 characters').nullish(),
  search: z.string().max(200, 'must have at most 200 characters').nullish(),
});
export type SlideFilter = z.infer<typeof slideFilterSchema>;

/** Empty for a slide that could not be opened. */
export const slideLevelsSchema = z.array(slideFactsSchema.shape.levels.element);

/**
 * The position in a cursor of the list of slides, or undefined without one.
 * @throws DomainError CURSOR_INVALID for a cursor of another list.
 */
export function cursorOfSlides(key: readonly (string | number | null)[] | undefined): number | undefined {
  if (key === undefined) return undefined;
  const [madeFor, position] = key;
  if (madeFor === 'SLIDE' && Number.isInteger(position) && Math.abs(Number(position)) < 2 ** 31)
    return Number(position);
  throw new DomainError({
    code: 'CURSOR_INVALID',
    message: '`after` is not a cursor of this list.',
    field: 'after',
    hint: 'Pass pageInfo.endCursor of the previous page, with the same filter.',
  });
}
