//go:build race

package inbox

// raceCost is how much slower the tests are with the race detector.
const raceCost = 50
