// Keys of the whole page; what has the focus takes its own first.

const TYPED_INTO = ["INPUT", "SELECT", "TEXTAREA", "SUMMARY"];

export function listenToKeys(app) {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || !app.data) return;
    const {tagName} = event.target;
    const action = ACTIONS[event.key];
    if (!action) return;
    if (TYPED_INTO.includes(tagName) && !["Escape", "[", "]", "?"].includes(event.key)) return;
    if (tagName === "BUTTON" && event.key === " ") return;
    if (action(app) !== false) event.preventDefault();
  });
}

const ACTIONS = {
  " ": (app) => app.timeline.toggle(),
  ArrowLeft: (app) => app.timeline.move(-1),
  ArrowRight: (app) => app.timeline.move(1),
  Home: (app) => app.timeline.move(-Infinity),
  End: (app) => app.timeline.move(Infinity),
  "[": (app) => toAlarm(app, app.alarmSteps().findLast((step) => step < app.shownStep)),
  "]": (app) => toAlarm(app, app.alarmSteps().find((step) => step > app.shownStep)),
  "?": (app) => app.help.openKeys(app.rangeElement),
  Escape: (app) => app.help.close() || app.closeLens() || app.closeInspector(),
};

function toAlarm(app, step) {
  if (step !== undefined) app.goTo(step);
}
