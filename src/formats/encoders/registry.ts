/** Every family of encoders. To add one: its folder, a line here, and its network in workers/engine/encoders. */
import type { EncoderFamily } from './family.ts';
import { RESNET } from './resnet/index.ts';
import { VIT } from './vit/index.ts';

export const ENCODER_FAMILIES: readonly EncoderFamily[] = [RESNET, VIT];
