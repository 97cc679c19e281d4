// Timers of a page that may be hidden: those of a Worker are not held up.

onmessage = ({ data: { number, ms } }) => setTimeout(() => postMessage(number), ms);
