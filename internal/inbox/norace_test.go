//go:build !race

package inbox

const raceCost = 1
