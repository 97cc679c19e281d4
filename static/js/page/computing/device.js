// What kind of device this is, as far as its browser says.

const SMALL_PX = 600; // the shorter side of a screen that is held in one hand

/** @returns {boolean} a phone: its battery and its data plan are its person's */
export const isPhone = () => navigator.userAgentData?.mobile === true
  || (matchMedia('(pointer: coarse)').matches && Math.min(screen.width, screen.height) < SMALL_PX);

/** @returns {boolean} the browser is told to save data */
export const savesData = () => navigator.connection?.saveData === true;
