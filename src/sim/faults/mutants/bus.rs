//! M04: a wrapper of the bus.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::Wrapped;
use crate::ports::{Bus, Outcome, Queue, QueueStats, Read, Receipt, Received, Target};

#[async_trait]
impl Bus for Wrapped<dyn Bus> {
    async fn publish(&self, to: Target, messages: &[Bytes]) -> Vec<Outcome<()>> {
        self.inner.publish(to, messages).await
    }

    async fn receive(
        &self,
        queue: Queue,
        max: usize,
        wait: Duration,
        visibility: Duration,
    ) -> Read<Vec<Received>> {
        let batch = self.inner.receive(queue, max, wait, visibility).await?;
        let receipts: Vec<Receipt> = batch.iter().map(|d| d.receipt.clone()).collect();
        if !receipts.is_empty() {
            let _ = self.inner.acknowledge(queue, &receipts).await;
        }
        Ok(batch)
    }

    async fn acknowledge(&self, _queue: Queue, receipts: &[Receipt]) -> Vec<Outcome<()>> {
        vec![Outcome::Done(()); receipts.len()]
    }

    async fn extend(
        &self,
        queue: Queue,
        receipts: &[Receipt],
        visibility: Duration,
    ) -> Vec<Outcome<()>> {
        self.inner.extend(queue, receipts, visibility).await
    }

    async fn redrive(&self, queue: Queue, max: usize) -> Outcome<u64> {
        self.inner.redrive(queue, max).await
    }

    async fn stats(&self, queue: Queue) -> Read<QueueStats> {
        self.inner.stats(queue).await
    }
}
