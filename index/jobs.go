package index

import (
	"bytes"
	"context"
)

func (t *tx) putJob(m PutJob) error {
	if m.IfAbsent && t.jobs.Get([]byte(m.Job.ID)) != nil {
		return ErrExists
	}
	if m.IfRecord != nil && !bytes.Equal(t.jobs.Get([]byte(m.Job.ID)), encodeOpaque(jobV1, m.IfRecord)) {
		return ErrConflict
	}
	t.put(t.jobs, []byte(m.Job.ID), encodeOpaque(jobV1, m.Job.Record))
	return nil
}

// Job returns one job, or ErrNotFound.
func (x *Index) Job(id string) (job Job, err error) {
	err = x.view(func(b *view) error {
		value := b.Bucket(bucketJobs).Get([]byte(id))
		if value == nil {
			return ErrNotFound
		}
		job.ID = id
		job.Record, err = decodeOpaque("job", jobV1, value)
		return err
	})
	return job, err
}

// Jobs calls fn for each job by ID. The rules of List apply to fn.
func (x *Index) Jobs(fn func(Job) error) error {
	fn = callback(fn)
	return x.scan(context.Background(), walk{bucket: bucketJobs}, func(id, value []byte) ([]byte, error) {
		record, err := decodeOpaque("job", jobV1, value)
		if err != nil {
			return nil, err
		}
		return nil, fn(Job{ID: string(id), Record: record})
	})
}
