// Ticks every second. The timers of a page that nobody sees may be held up for a minute, and the
// others would take this tab for gone, or a lease would run out meanwhile; those of a Worker are not.

setInterval(() => postMessage(null), 1000);
