/** Every family of encoders. To add one: its folder, a line here, and its network in workers/engine/encoders. */
import type { EncoderFamily } from './family.ts';
import { RESNET } from './resnet/index.ts';
import { VIT } from './vit/index.ts';

const families: EncoderFamily[] = [RESNET, VIT];

export const ENCODER_FAMILIES: readonly EncoderFamily[] = families;

/**
 * Adds a family that is not part of this program, for this process.
 * @throws RangeError if a family has its name already.
 */
export function registerEncoderFamily(family: EncoderFamily): void {
  if (families.some((each) => each.family === family.family))
    throw new RangeError(`An encoder family is called ${family.family} already.`);
  families.push(family);
}
