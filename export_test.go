package unibus

import "time"

func init() { giveUpAfter, parkedFor = time.Second, time.Second }
